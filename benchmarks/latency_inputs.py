"""Before a net is timed: its file, the samples that calibrate and judge it, and its form for ONNX Runtime's tool."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import CALIBRATION, EVALUATION, Result, Stopwatch
from nets import NETS
from photos import Sample
from prepare import demo_model, find_samples, prepare_model, write_digits, write_listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir
    from jobs import Job
    from numpy.typing import NDArray

__all__ = ["DIGITS", "PPOCR", "run"]

DIGITS, PPOCR = "digits", "ppocr-cls"
_PPOCR_PACKAGE, _PPOCR_FILE = "rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"


def run(job: Job) -> Result:
    """Write ``job.model``, ``job.samples`` (all .npy) and ``job.prepared``.

    Options: ``net`` (a name), ``file`` (its model, ``None`` to make or find it), ``shape`` (C, H, W where the model
    leaves them open), ``images`` (photos; ``None``: generated), ``split``, ``eval_split``, ``count``, ``eval_count``.

    Values: ``batch`` (that of the model's input, ``None`` where it is free), ``shape``, ``images`` (what the samples
    are), ``layers`` (MACs a sample by node name), ``note``, ``runtime``.
    """
    import onnx_ir as ir

    watch = Stopwatch()
    options = job.options
    _write_model(options["net"], options["file"], Path(job.model))
    note, runtime = prepare_model(job.model, job.prepared)
    batch, shape = _input_shape(ir.load(job.model), tuple(options["shape"]))
    folder = Path(job.samples).parent / "samples"
    if options["net"] == DIGITS:
        images, samples = "the shipped digits", _limited(write_digits(folder), options)
    elif options["images"] is not None and shape[0] == 3:
        found = find_samples(Path(options["images"]), options["split"], options["eval_split"], options["count"])
        images, samples = "photos", _write_photos(_limited(found, options), folder, shape, job)
    else:
        images, samples = "generated images", _write_generated(folder, shape, options, job)
    write_listing(Path(job.samples), samples)
    values = {"batch": batch, "shape": list(shape), "images": images, "note": note, "runtime": runtime}
    return Result(seconds=watch.seconds(), libraries_mb=watch.libraries_mb, values=values)


def _write_model(net: str, file: str | None, target: Path) -> None:
    import onnx_ir as ir

    if file is None and net in NETS:
        ir.save(NETS[net](), target)
        return
    source = Path(file) if file is not None else demo_model() if net == DIGITS else _installed_ppocr()
    shutil.copyfile(source, target)


def _installed_ppocr() -> Path:
    found = importlib.util.find_spec(_PPOCR_PACKAGE)  # only located: importing it would import OpenCV
    file = None if found is None or found.origin is None else Path(found.origin).parent / _PPOCR_FILE
    if file is None or not file.is_file():
        raise SystemExit(
            f"{PPOCR}: no {_PPOCR_FILE}; install rapidocr-onnxruntime==1.4.4 or name the file: --ppocr-cls"
        )
    return file


def _input_shape(model: ir.Model, default: tuple[int, ...]) -> tuple[int | None, tuple[int, ...]]:
    """Batch size, ``None`` where it is free, and the shape of one sample."""
    (value,) = (value for value in model.graph.inputs if value.name not in model.graph.initializers)
    if value.shape is None or len(value.shape) != 4:
        raise SystemExit(f"The input {value.name!r} has the shape {value.shape}; expected N, C, H, W.")
    batch, *sizes = [size if isinstance(size, int) and size > 0 else None for size in value.shape]
    return batch, tuple(default[i] if size is None else size for i, size in enumerate(sizes))


def _limited(samples: list[Sample], options: dict[str, Any]) -> list[Sample]:
    return [
        sample
        for split, limit in ((CALIBRATION, options["count"]), (EVALUATION, options["eval_count"]))
        for sample in [sample for sample in samples if sample.split == split][:limit]
    ]


def _write_photos(samples: list[Sample], folder: Path, shape: tuple[int, ...], job: Job) -> list[Sample]:
    """Photos cut and scaled to the net's input."""
    import PIL.Image
    import PIL.ImageOps

    folder.mkdir(parents=True)
    written = []
    for i, sample in enumerate(samples):
        with PIL.Image.open(sample.path) as opened:
            image = PIL.ImageOps.fit(opened.convert("RGB"), (shape[2], shape[1]), PIL.Image.Resampling.BILINEAR)
        written.append(_write(folder / f"{i:04}.npy", np.asarray(image, np.float32), sample, job))
    return written


def _write_generated(folder: Path, shape: tuple[int, ...], options: dict[str, Any], job: Job) -> list[Sample]:
    folder.mkdir(parents=True)
    images = _generated(shape)
    splits = [CALIBRATION] * options["count"] + [EVALUATION] * options["eval_count"]
    return [
        _write(folder / f"{i:04}.npy", next(images), Sample(folder, split, None), job) for i, split in enumerate(splits)
    ]


def _write(path: Path, pixels: NDArray[np.float32], sample: Sample, job: Job) -> Sample:
    channels = pixels.shape[-1]
    scaled = (pixels - np.asarray(job.mean[:channels], np.float32)) / np.asarray(job.std[:channels], np.float32)
    np.save(path, np.ascontiguousarray(scaled.transpose(2, 0, 1)))
    return Sample(path, sample.split, sample.label)


def _generated(shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Pixels (H, W, C), 0 to 255: noise of several sizes over one another, whose spectrum is like that of photos."""
    import PIL.Image

    random = np.random.Generator(np.random.PCG64(0))
    channels, height, width = shape
    while True:
        total = np.zeros((height, width, channels), np.float32)
        for level in range(1, 8):
            grid = (min(height, 2**level), min(width, 2**level))
            for channel in range(channels):
                noise = PIL.Image.fromarray(random.standard_normal(grid, np.float32))
                spread = noise.resize((width, height), PIL.Image.Resampling.BICUBIC)
                total[..., channel] += np.asarray(spread) * np.float32(2.0 ** (-level / 2))
        yield np.clip(np.rint(128 + 64 * total), 0, 255).astype(np.float32)
