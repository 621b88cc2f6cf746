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

__all__ = ["demo_model", "find_samples", "prepare_model", "run", "write_digits", "write_listing"]

_PER_CHANNEL_OPSET = 13


def run(job: Job) -> Result:
    """Write ``job.samples`` with the splits calibration, evaluation and repeated, and ``job.prepared``.

    Options: ``images`` (a .csv or a folder; ``None``: the shipped digits, and ``job.model`` is written too),
    ``split`` and ``eval_split`` (of a .csv), ``count`` and ``eval_count`` (upper limits), ``flat`` (samples to repeat
    to).
    """
    watch = Stopwatch()
    options = job.options
    if options["images"] is None:
        shutil.copyfile(demo_model(), job.model)
        found = write_digits(Path(job.samples).parent / "digits")
    else:
        found = find_samples(Path(options["images"]), options["split"], options["eval_split"], options["count"])
    calibration, evaluation = (
        [sample for sample in found if sample.split == split][:limit]
        for split, limit in ((CALIBRATION, options["count"]), (EVALUATION, options["eval_count"]))
    )
    if not calibration:
        raise SystemExit(f"No samples to calibrate with: {options['images']}, split {options['split']!r}.")
    repeated = itertools.islice(itertools.cycle(calibration), options["flat"] or 0)
    write_listing(
        Path(job.samples), [*calibration, *evaluation, *(Sample(s.path, REPEATED, s.label) for s in repeated)]
    )
    note, runtime = prepare_model(job.model, job.prepared)
    values = {"calibration": len(calibration), "evaluation": len(evaluation), "note": note, "runtime": runtime}
    return Result(seconds=watch.seconds(), libraries_mb=watch.libraries_mb, values=values)


def find_samples(images: Path, split: str, eval_split: str, count: int | None) -> list[Sample]:
    """The files of a folder, half of them (or ``count``) to calibrate with, or those of two splits of a .csv."""
    if images.is_dir():
        paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
        half = (len(paths) + 1) // 2 if count is None else count
        return [Sample(path, CALIBRATION if i < half else EVALUATION, None) for i, path in enumerate(paths)]
    names = {split: CALIBRATION, eval_split: EVALUATION}
    return [Sample(s.path, names[s.split], s.label) for s in read_samples(images) if s.split in names]


def demo_model() -> Path:
    """The shipped digits network."""
    from ort_quant_plugin.demo import demo_model_path

    return demo_model_path()


def write_digits(folder: Path) -> list[Sample]:
    """Write the shipped digits as .npy files."""
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


def write_listing(path: Path, samples: Iterable[Sample]) -> None:
    """Write the .csv that every tool reads."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "split", "class_index"])
        for sample in samples:
            writer.writerow([sample.path.resolve(), sample.split, "" if sample.label is None else sample.label])


def prepare_model(model: str, prepared: str) -> tuple[str | None, str]:
    """Fold constants and BatchNormalization and infer shapes, as ONNX Runtime's documentation asks for.

    Returns:
        What went wrong, and the version of ONNX Runtime.
    """
    import onnxruntime
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        # Symbolic shape inference needs sympy and is for transformers.
        quant_pre_process(_per_channel_ready(model, Path(prepared)), prepared, skip_symbolic_shape=True)
    except Exception as error:  # whatever it is, the tools can still be given the model as it is
        shutil.copyfile(model, prepared)
        note = f"quant_pre_process failed ({type(error).__name__}: {error}); every tool got the model as it is."
        return note, onnxruntime.__version__
    return None, onnxruntime.__version__


def _per_channel_ready(model: str, prepared: Path) -> str:
    """The model, or a copy in a newer opset: before 13, DequantizeLinear has no scales per channel."""
    import onnx
    import onnx.version_converter

    loaded = onnx.load(model)
    if max(entry.version for entry in loaded.opset_import if not entry.domain) >= _PER_CHANNEL_OPSET:
        return model
    converted = prepared.with_suffix(".converted.onnx")
    onnx.save(onnx.version_converter.convert_version(loaded, _PER_CHANNEL_OPSET), converted)
    return str(converted)
