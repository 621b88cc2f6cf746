"""Before the first measurement: one list of samples for every tool, and the model as ONNX Runtime's tool wants it."""

from __future__ import annotations

import csv
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jobs import CALIBRATION, EVALUATION, REPEATED, Result, Stopwatch
from photos import SUFFIXES, Sample, read_samples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs import Job

__all__ = ["run"]


def run(job: Job) -> Result:
    """Write ``job.samples`` with the splits calibration, evaluation and repeated, and ``job.prepared``.

    Options: ``images`` (a .csv or a folder; ``None``: the shipped digits, and ``job.model`` is written too),
    ``split`` and ``eval_split`` (of a .csv), ``count`` and ``eval_count`` (upper limits), ``flat`` (samples to repeat
    to).
    """
    watch = Stopwatch()
    options = job.options
    if options["images"] is None:
        shutil.copyfile(_demo_model(), job.model)
        found = _write_digits(Path(job.samples).parent / "digits")
    else:
        found = _find(Path(options["images"]), options["split"], options["eval_split"], options["count"])
    calibration, evaluation = (
        [sample for sample in found if sample.split == split][:limit]
        for split, limit in ((CALIBRATION, options["count"]), (EVALUATION, options["eval_count"]))
    )
    if not calibration:
        raise SystemExit(f"No samples to calibrate with: {options['images']}, split {options['split']!r}.")
    repeated = itertools.islice(itertools.cycle(calibration), options["flat"] or 0)
    _write_listing(
        Path(job.samples), [*calibration, *evaluation, *(Sample(s.path, REPEATED, s.label) for s in repeated)]
    )
    note, runtime = _prepare_model(job)
    values = {"calibration": len(calibration), "evaluation": len(evaluation), "note": note, "runtime": runtime}
    return Result(seconds=watch.seconds(), libraries_mb=watch.libraries_mb, values=values)


def _find(images: Path, split: str, eval_split: str, count: int | None) -> list[Sample]:
    if images.is_dir():
        paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
        half = (len(paths) + 1) // 2 if count is None else count
        return [Sample(path, CALIBRATION if i < half else EVALUATION, None) for i, path in enumerate(paths)]
    names = {split: CALIBRATION, eval_split: EVALUATION}
    return [Sample(s.path, names[s.split], s.label) for s in read_samples(images) if s.split in names]


def _demo_model() -> Path:
    from ort_quant_plugin.demo import demo_model_path

    return demo_model_path()


def _write_digits(folder: Path) -> list[Sample]:
    from ort_quant_plugin.demo import load_digits

    folder.mkdir(parents=True)
    digits = load_digits()
    found = []
    for split, images, labels in (
        (CALIBRATION, digits.calibration, None),
        (EVALUATION, digits.evaluation, digits.labels),
    ):
        for i, image in enumerate(images):
            path = folder / f"{split}_{i:04}.npy"
            np.save(path, image)
            found.append(Sample(path, split, None if labels is None else int(labels[i])))
    return found


def _write_listing(path: Path, samples: Iterable[Sample]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "split", "class_index"])
        for sample in samples:
            writer.writerow([sample.path.resolve(), sample.split, "" if sample.label is None else sample.label])


def _prepare_model(job: Job) -> tuple[str | None, str]:
    """Fold constants and BatchNormalization and infer shapes, as ONNX Runtime's documentation asks for.

    Returns:
        What went wrong, and the version of ONNX Runtime.
    """
    import onnxruntime
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        # Symbolic shape inference needs sympy and is for transformers.
        quant_pre_process(job.model, job.prepared, skip_symbolic_shape=True)
    except Exception as error:  # whatever it is, the tools can still be given the model as it is
        shutil.copyfile(job.model, job.prepared)
        note = f"quant_pre_process failed ({type(error).__name__}: {error}); every tool got the model as it is."
        return note, onnxruntime.__version__
    return None, onnxruntime.__version__
