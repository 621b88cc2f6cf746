"""How far a quantized model's values are from the float model's, in float64.

With x the reference and y the candidate, over all elements of all batches:

    cosine         Σxy / √(Σx² · Σy²)               1 = same direction
    SQNR           10·log10(Σx² / Σ(x−y)²) dB       higher is better; +∞ when x = y everywhere
    MSE            Σ(x−y)² / n
    maximum error  max |x−y|

Elements where x and y are the same non-finite value (a masked −∞) count as equal; one that is non-finite
on one side only makes every measure its worst value and is counted in ``nonfinite``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BUILTIN_METRICS",
    "ErrorStats",
    "agreement",
    "agreement_count",
    "cosine",
    "max_abs_error",
    "mse",
    "same_bits",
    "sqnr_db",
    "top_k",
    "top_k_count",
    "top_k_hits",
]

_BLOCK = 8192
"""Elements added up at a time: their float64 copies stay in the cache, and OpenBLAS, which spreads longer products over
threads that wait for each other, computes them on this one."""


@dataclass
class ErrorStats:
    """Sums of one tensor pair over any number of batches; constant memory, independent of the batch split.

    Attributes:
        count: Elements seen.
        sum_xx: Σx² over elements that are finite on both sides.
        sum_yy: Σy², likewise.
        sum_xy: Σxy, likewise.
        sum_dd: Σ(x−y)², likewise.
        sum_ad: Σ|x−y|, likewise.
        max_abs_error: Largest |x−y|, infinite as soon as ``nonfinite`` is not 0.
        nonfinite: Elements that are NaN or infinite on one side only, or differently on both.
        both_nan: Elements that are NaN on both sides: they count as equal, which callers may see otherwise.
    """

    count: int = 0
    sum_xx: float = 0.0
    sum_yy: float = 0.0
    sum_xy: float = 0.0
    sum_dd: float = 0.0
    max_abs_error: float = 0.0
    nonfinite: int = 0
    sum_ad: float = 0.0
    both_nan: int = 0

    def update(self, reference: ArrayLike, candidate: ArrayLike) -> None:
        """Add one batch.

        Raises:
            ModelError: the shapes differ.
        """
        one, other = np.asarray(reference), np.asarray(candidate)
        if one.shape != other.shape:
            raise ModelError(
                f"The tensors to compare have the shapes {list(one.shape)} and {list(other.shape)}.",
                hint="Compare models with the same outputs.",
                expected=one.shape,
                value=other.shape,
            )
        x, y = one.ravel(), other.ravel()
        self.count += x.size
        for start in range(0, x.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            self._add(x[part].astype(np.float64), y[part].astype(np.float64))

    def _add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.all():
            both_nan = np.isnan(x) & np.isnan(y)
            self.both_nan += int(np.count_nonzero(both_nan))
            same = (x == y) | both_nan
            self.nonfinite += int(np.count_nonzero(~finite & ~same))
            x, y = x[finite], y[finite]
        difference = x - y
        self.sum_xx += float(x @ x)
        self.sum_yy += float(y @ y)
        self.sum_xy += float(x @ y)
        self.sum_dd += float(difference @ difference)
        distance = np.abs(difference)
        self.sum_ad += float(distance.sum())
        largest = float(np.max(distance, initial=0.0))
        self.max_abs_error = math.inf if self.nonfinite else max(self.max_abs_error, largest)

    @property
    def exact(self) -> bool:
        """Whether every element was equal."""
        return self.max_abs_error == 0

    @property
    def cosine(self) -> float:
        """Cosine similarity in [−1, 1]; 1 when equal (two zero tensors too), 0 when only one is all zero."""
        if self.nonfinite:
            return math.nan
        if self.exact:
            return 1.0
        norm = math.sqrt(self.sum_xx) * math.sqrt(self.sum_yy)
        return min(1.0, max(-1.0, self.sum_xy / norm)) if norm > 0 else 0.0

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio in dB; +∞ when equal, −∞ when only the reference is all zero."""
        if self.nonfinite:
            return -math.inf
        if self.exact or self.sum_dd == 0:
            return math.inf
        return 10 * math.log10(self.sum_xx / self.sum_dd) if self.sum_xx > 0 else -math.inf

    @property
    def noise_to_signal(self) -> float:
        """Σ(x−y)² / Σx²: 0 when equal, +∞ when only the reference is all zero."""
        if self.nonfinite:
            return math.inf
        if self.exact or self.sum_dd == 0:
            return 0.0
        return self.sum_dd / self.sum_xx if self.sum_xx > 0 else math.inf

    @property
    def mse(self) -> float:
        """Mean squared error; 0 when nothing was seen."""
        if self.nonfinite:
            return math.inf
        return self.sum_dd / self.count if self.count else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form. Infinite and NaN become null: ``exact`` tells +∞ dB from ``nonfinite``."""
        return {
            "cosine": _json(self.cosine),
            "sqnr_db": _json(self.sqnr_db),
            "mse": _json(self.mse),
            "max_abs_error": _json(self.max_abs_error),
            "exact": self.exact,
            "nonfinite": self.nonfinite,
            "elements": self.count,
        }


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stats(reference: ArrayLike, candidate: ArrayLike) -> ErrorStats:
    stats = ErrorStats()
    stats.update(reference, candidate)
    return stats


def same_bits(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    """Whether two arrays have the same type, shape and bits: −0 is not 0, and a NaN equals itself."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def cosine(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Cosine similarity Σxy / √(Σx²·Σy²); see :attr:`ErrorStats.cosine` for zero tensors."""
    return _stats(reference, candidate).cosine


def sqnr_db(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Signal to quantization noise ratio 10·log10(Σx² / Σ(x−y)²) in dB; +∞ for equal tensors."""
    return _stats(reference, candidate).sqnr_db


def mse(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Mean squared error Σ(x−y)²/n."""
    return _stats(reference, candidate).mse


def max_abs_error(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Largest absolute difference max|x−y|."""
    return _stats(reference, candidate).max_abs_error


def agreement_count(reference: ArrayLike, candidate: ArrayLike) -> int:
    """How many rows have the same arg-max class (ties: the lowest class).

    Shapes: both (samples, classes).
    """
    return int(np.count_nonzero(np.argmax(reference, axis=-1) == np.argmax(candidate, axis=-1)))


def agreement(reference: ArrayLike, candidate: ArrayLike) -> float:
    """Share of rows with the same arg-max class, in [0, 1].

    Shapes: both (samples, classes), at least one sample.
    """
    return agreement_count(reference, candidate) / len(np.asarray(reference))


def top_k_hits(logits: ArrayLike, labels: ArrayLike, k: int = 1) -> NDArray[np.bool_]:
    """Which rows have the label among their ``k`` largest values (ties: the lower class first; NaN is a miss).

    Shapes: logits (samples, classes), labels (samples,) integers in [0, classes), result (samples,).
    """
    values, classes = np.asarray(logits), np.asarray(labels)
    chosen = np.take_along_axis(values, classes[:, np.newaxis], axis=1)
    before = (values == chosen) & (np.arange(values.shape[1]) < classes[:, np.newaxis])
    rank = np.count_nonzero((values > chosen) | before, axis=1)
    hits: NDArray[np.bool_] = (rank < k) & ~np.isnan(values).any(axis=1)
    return hits


def top_k_count(logits: ArrayLike, labels: ArrayLike, k: int = 1) -> int:
    """How many rows have the label among their ``k`` largest values; see :func:`top_k_hits`."""
    return int(np.count_nonzero(top_k_hits(logits, labels, k)))


def top_k(logits: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Share of rows with the label among the ``k`` largest values, in [0, 1]; see :func:`top_k_hits`."""
    return top_k_count(logits, labels, k) / len(np.asarray(labels))


BUILTIN_METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "cosine": cosine,
    "sqnr_db": sqnr_db,
    "mse": mse,
    "max_abs_error": max_abs_error,
    "agreement": agreement,
}
"""Metrics by name: functions of (reference, candidate)."""
