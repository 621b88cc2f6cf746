"""True classes for evaluation data, matched to its samples."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ort_quant_plugin.calibration.arrays import read_npy
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ort_quant_plugin.calibration.data import CalibrationData

__all__ = ["as_labels", "match_by_name", "read_labels", "read_table"]

T = TypeVar("T")


def as_labels(labels: Any, data: CalibrationData) -> NDArray[np.int64]:
    """Class indices from a file (:func:`read_labels`), or from an array or a list in the order of the samples.

    Raises:
        DataError: They cannot be read or are no class indices, or a sample has no label.
    """
    if isinstance(labels, (str, Path)):
        return read_labels(labels, data)
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"Labels have shape {list(array.shape)} and dtype {array.dtype}; expected one integer per sample.",
            hint="Give a one-dimensional array of class indices.",
            value=array.shape,
        )
    return array.astype(np.int64)


def read_labels(path: str | os.PathLike[str], data: CalibrationData) -> NDArray[np.int64]:
    """Read one class index per sample, in the order of ``data``.

    Args:
        path: A ``.npy`` of integers in the order of the samples, or a ``.csv`` with the columns ``file`` and
            ``class_index``, matched by file name; it may hold more files than the data.
        data: The samples.

    Returns:
        (samples,) int64.

    Raises:
        DataError: the file is missing or malformed, or a sample has no label.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return np.asarray(match_by_name(_read_csv(path), data, path), dtype=np.int64)
    if path.suffix.lower() != ".npy":
        raise DataError(f"Labels {path} are neither .csv nor .npy.", hint="Give one of these.", path=str(path))
    labels = read_npy(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"Labels {path} have shape {list(labels.shape)} and dtype {labels.dtype}; expected one integer per sample.",
            hint="Save a one-dimensional array of class indices.",
            path=str(path),
        )
    return labels.astype(np.int64)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a ``.csv`` file with a header line.

    Raises:
        DataError: It is missing or unreadable.
    """
    try:
        return list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Labels {path} cannot be read: {error}.", hint="Check the path.", path=str(path)) from error


def _read_csv(path: Path) -> dict[str, int]:
    return dict(_label(row, line, path) for line, row in enumerate(read_table(path), 2))


def _label(row: dict[str, Any], line: int, path: Path) -> tuple[str, int]:
    try:
        return row["file"], int(row["class_index"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Labels {path}, line {line}: no file and integer class_index in {_short(row)}.",
            hint="Start the file with the header line 'file,class_index'.",
            path=str(path),
            line=line,
        ) from error


def match_by_name(labels: Mapping[str, T], data: CalibrationData, path: Path) -> list[T]:
    """The label of each sample in the order of ``data``, by its name or by the name of its file.

    Raises:
        DataError: A sample has none.
    """
    found = []
    for name in (name for batch in data.batch_names for name in batch):
        label = labels.get(name, labels.get(PurePosixPath(name).name))
        if label is None:
            raise DataError(
                f"Labels {path} have no line for sample '{name}'.",
                hint="Name the samples as the data does; for data without file names give the labels in its order.",
                path=str(path),
                sample=name,
            )
        found.append(label)
    return found


def _short(row: dict[str, Any]) -> str:
    text = ",".join(str(value) for value in row.values())
    return repr(text if len(text) <= 60 else text[:57] + "...")
