"""Folders of raw ``.bin`` files as AMCT reads them: one folder per input, one file per batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.batches import BatchData
from ort_quant_plugin.calibration.feeds import describe_shape
from ort_quant_plugin.calibration.fingerprint import file_state
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ort_quant_plugin.calibration.feeds import Feed
    from ort_quant_plugin.model import TensorSpec

__all__ = ["open_bin_folders"]


def open_bin_folders(
    folders: Sequence[Path],
    specs: Sequence[TensorSpec],
    shapes: Mapping[str, Sequence[int]] | None,
    dtypes: Mapping[str, np.dtype[Any]] | None,
) -> BatchData:
    """Open one folder of raw ``.bin`` files per input (AMCT's --data-dir); one file is one batch.

    Files are taken in lexicographic order. Folders follow the order of ``shapes`` where given (AMCT's
    --input-shape), else the model's inputs. A shape is needed where the input has dynamic dimensions.

    Raises:
        DataError: a folder is missing or empty, the numbers of folders or files differ, a shape is missing or
            contradicts the model, or a file's size is not shape × dtype.
    """
    by_name = {spec.name: spec for spec in specs}
    order = list(shapes or by_name)
    if set(order) != set(by_name) or len(folders) != len(order):
        raise DataError(
            f"{len(folders)} data folders and shapes for {', '.join(map(repr, order))} do not fit the model's inputs "
            f"{', '.join(map(repr, by_name))}.",
            hint="Give one folder, one shape and one dtype per model input, in the same order.",
            value=[str(folder) for folder in folders],
            expected=list(by_name),
        )
    layouts = {name: _bin_layout(by_name[name], (shapes or {}).get(name), (dtypes or {}).get(name)) for name in order}
    files = {name: _bin_files(folder) for name, folder in zip(order, folders, strict=True)}
    counts = {str(folder): len(found) for folder, found in zip(folders, files.values(), strict=True)}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"The data folders hold different numbers of .bin files: {counts}.",
            hint="Give every input one file per batch.",
            value=counts,
        )
    for name, found in files.items():
        for path in found:
            _check_bin_size(path, *layouts[name])
    batches = list(zip(*files.values(), strict=True))

    def read(start: int, stop: int) -> Iterator[Feed]:
        for paths in batches[start:stop]:
            yield {
                name: np.fromfile(path, layouts[name][1]).reshape(layouts[name][0])
                for name, path in zip(order, paths, strict=True)
            }

    def identity() -> object:
        return {
            name: [shape, dtype.str, [(path.name, file_state(path)) for path in files[name]]]
            for name, (shape, dtype) in layouts.items()
        }

    names = [[";".join(path.name for path in dict.fromkeys(paths))] for paths in batches]
    return BatchData(specs, names, read, identity=identity)


def _bin_layout(
    spec: TensorSpec, shape: Sequence[int] | None, dtype: np.dtype[Any] | None
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    wanted: Sequence[int | str | None] = shape if shape is not None else spec.shape or ()
    sizes = [dim for dim in wanted if isinstance(dim, int)]
    unknown = shape is None and spec.shape is None
    if unknown or len(sizes) != len(wanted) or any(size < 1 for size in sizes):
        raise DataError(
            f"Raw .bin data for input '{spec.name}' needs a full shape; {describe_shape(wanted)} is not one.",
            hint=f'Give it, for example: --input-shape "{spec.name}:1,3,224,224".',
            input=spec.name,
            value=tuple(wanted),
        )
    return tuple(sizes), np.dtype(dtype if dtype is not None else spec.dtype)


def _bin_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"Data folder {folder} does not exist.", hint="Check the path.", path=str(folder))
    found = sorted(path for path in folder.iterdir() if path.suffix == ".bin" and path.is_file())
    if not found:
        raise DataError(
            f"Data folder {folder} holds no .bin files.",
            hint="Write one raw .bin file per batch there.",
            path=str(folder),
        )
    return found


def _check_bin_size(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    expected = math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    if size != expected:
        raise DataError(
            f"{path} has {size} bytes, but {describe_shape(shape)} {dtype} needs {expected}.",
            hint="Check --input-shape and --data-types against how the file was written.",
            path=str(path),
            value=size,
            expected=expected,
        )
