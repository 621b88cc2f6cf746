"""What identifies calibration data: a digest that changes when the data, its preprocessing or its batches do."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from ort_quant_plugin.calibration.feeds import Array

__all__ = ["array_state", "digest", "file_state"]


def digest(*parts: object) -> str:
    """Hex digest (BLAKE2b, 128 bits) of values JSON can hold; numpy scalars count as numbers, tuples as lists."""
    text = json.dumps(parts, sort_keys=True, default=_number)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _number(value: Any) -> int | float | bool:
    return np.asarray(value)[()].item()


def file_state(path: Path) -> tuple[int, int] | None:
    """(size in bytes, time of the last change in ns); ``None`` for a missing file, which is named when it is read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def array_state(array: Array) -> tuple[str, tuple[int, ...], str]:
    """(dtype, shape, digest of the values) of an array of any shape."""
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return array.dtype.str, array.shape, hashlib.blake2b(values.data, digest_size=16).hexdigest()
