"""One file per sample: folders and lists of images or .npy samples."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.calibration.arrays import read_npy
from ort_quant_plugin.calibration.batches import BatchData, group
from ort_quant_plugin.calibration.feeds import describe_shape, single_input, static_batch
from ort_quant_plugin.calibration.fingerprint import file_state
from ort_quant_plugin.calibration.images import IMAGE_SUFFIXES, ImagePreprocess, read_image
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ort_quant_plugin.calibration.feeds import Array, Feed
    from ort_quant_plugin.model import TensorSpec

__all__ = ["SAMPLE_SUFFIXES", "find_samples", "open_samples", "read_list"]

SAMPLE_SUFFIXES = IMAGE_SUFFIXES | {".npy"}


def find_samples(folder: Path) -> list[str]:
    """List images and .npy files below a folder, relative to it, in lexicographic order; hidden files are left out."""
    found = (entry.relative_to(folder) for entry in folder.rglob("*") if entry.suffix.lower() in SAMPLE_SUFFIXES)
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def read_list(path: Path, split: str | None = None) -> list[str]:
    """Read a list of sample files: one path per line (``#`` lines are comments), or the ``file`` column of a .csv.

    Args:
        path: The list.
        split: Keep the .csv rows whose ``split`` column has this value.

    Raises:
        DataError: the file is not text, a column is missing, or nothing is listed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is neither a known data file (.npy, .npz, an image) nor a text list of files: {error}.",
            hint="Give a folder, .npy, .npz, a text file with one path per line, or 'module:callable'.",
            path=str(path),
        ) from error
    if path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        for column in ["file"] if split is None else ["file", "split"]:
            if rows and column not in rows[0]:
                raise DataError(
                    f"{path} has no '{column}' column; it has {', '.join(map(repr, rows[0]))}.",
                    hint=f"Add a header line with '{column}'.",
                    path=str(path),
                )
        names = [row["file"] for row in rows if split is None or row["split"] == split]
    else:
        names = [name for line in text.splitlines() if (name := line.strip()) and not name.startswith("#")]
    if not names:
        raise DataError(
            f"{path} lists no files{'' if split is None else f' with split {split!r}'}.",
            hint="Add one path per line.",
            path=str(path),
            value=split,
        )
    return names


def open_samples(
    root: Path, names: Sequence[str], inputs: Sequence[TensorSpec], *, batch_size: int, preprocess: ImagePreprocess
) -> BatchData:
    """Open files that hold one sample each, for a model with one input.

    Args:
        root: Folder the names are relative to.
        names: Images or .npy files (a sample, with or without a leading axis of 1), in order.
        inputs: The model's inputs.
        batch_size: Samples per batch.
        preprocess: For the images.

    Raises:
        DataError: several inputs, or a file of another kind. While reading: a missing or corrupt file, or samples
            of different shapes in one batch.
    """
    spec = single_input(inputs, f"The images or samples in {root}")
    paths = [root / name for name in names]
    for path in paths:
        if path.suffix.lower() not in SAMPLE_SUFFIXES:
            raise DataError(
                f"{path} is neither an image (.jpg .jpeg .png .bmp .webp) nor .npy.",
                hint="List images or .npy files, one per line.",
                path=str(path),
            )
    size, dynamic = static_batch(inputs, batch_size)
    batches, notes, dropped = group(names, size, keep_rest=dynamic)

    def read(start: int, stop: int) -> Iterator[Feed]:
        for index in range(start, stop):
            chunk = paths[index * size : (index + 1) * size]
            yield {spec.name: _stack([_read_sample(path, preprocess, spec) for path in chunk], chunk, spec)}

    def identity() -> object:
        return preprocess.identity, [file_state(path) for path in paths[: sum(map(len, batches))]]

    return BatchData(inputs, batches, read, notes, dropped, identity=identity)


def _read_sample(path: Path, preprocess: ImagePreprocess, spec: TensorSpec) -> Array:
    if path.suffix.lower() != ".npy":
        return read_image(path, preprocess, spec)
    array = read_npy(path)
    # A leading batch axis of 1 is a common way to have saved a single sample.
    return array[0] if spec.shape and array.ndim == len(spec.shape) and array.shape[0] == 1 else array


def _stack(samples: Sequence[Array], paths: Sequence[Path], spec: TensorSpec) -> Array:
    first = samples[0]
    for sample, path in zip(samples, paths, strict=True):
        if sample.shape != first.shape or sample.dtype != first.dtype:
            raise DataError(
                f"{path} has shape {describe_shape(sample.shape)} {sample.dtype}, but {paths[0]} in the same batch has "
                f"{describe_shape(first.shape)} {first.dtype}.",
                hint="Bring all samples to one size (--resize, --crop), or use --batch-size 1.",
                input=spec.name,
                path=str(path),
            )
    return np.stack(samples)
