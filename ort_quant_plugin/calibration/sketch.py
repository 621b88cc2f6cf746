"""The sketch: a mergeable summary of every value a tensor took, on a grid that depends on the data alone.

Non-zero values are counted in bins ``[i·2ᵏ, (i+1)·2ᵏ)``, ``−8192 ≤ i < 8192``, exact zeros apart (N12)::

    k = clamp(floor(log2(max |x|)) − 12, −120, 115)

A larger value makes ``k`` grow, and bins merge in pairs: ``i → floor(i/2)``. So the sketch of a union is the merge of
the sketches, whatever the order, the batch size or the machine: counts, grid, minimum and maximum are exact. The
three sums are float64 and rounded, so no range may depend on their last bits; they are for reports.

This is the twin of the operator ``ort_quant.Observe``, which fills sketches while a model runs. Their serialized form
is :mod:`ort_quant_plugin.calibration.sketch_format`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS_PER_SIDE", "MAX_EXPONENT", "MIN_EXPONENT", "ChannelRanges", "Sketch", "grid_exponent", "merge"]

BINS_PER_SIDE = 8192
MIN_EXPONENT, MAX_EXPONENT = -120, 115
"""Limits of ``k``: 2⁻ᵏ stays a normal float32, and the largest float32 has a bin."""

_MAX_VALUES = (1 << 64) - 1
_NO_COUNTS = np.zeros(0, np.uint64)


def grid_exponent(magnitude: float) -> int:
    """``k`` of the grid on which values up to ``magnitude`` (finite, at least 0) are counted."""
    if magnitude == 0:
        return MIN_EXPONENT
    return min(max(math.frexp(magnitude)[1] - 13, MIN_EXPONENT), MAX_EXPONENT)


@dataclass(frozen=True, eq=False)
class ChannelRanges:
    """Range of each channel over the finite values; ``+inf``/``−inf`` where a channel had none.

    Attributes:
        axis: Channel axis of the tensor; negative counts from the end.
        minimum: (C,) float32.
        maximum: (C,) float32.
    """

    axis: int
    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]

    @property
    def absmax(self) -> NDArray[np.float32]:
        """(C,) largest magnitude, 0 where a channel had no finite value."""
        found = np.isfinite(self.minimum)
        return np.where(found, np.maximum(np.abs(self.minimum), np.abs(self.maximum)), 0).astype(np.float32)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelRanges):
            return NotImplemented
        return (
            self.axis == other.axis
            and np.array_equal(self.minimum, other.minimum)
            and np.array_equal(self.maximum, other.maximum)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Sketch:
    """All a calibration method may know about a tensor. Immutable; two sketches are equal when all but the sums are.

    Attributes:
        key: What was observed (the tensor's name).
        exponent: ``k``: bins are 2ᵏ wide.
        first_bin: Index ``i`` of ``counts[0]``, in [−8192, 8191]; 0 without counts.
        counts: (n,) uint64 non-zero values a bin; trimmed, so that its first and last entries are above 0.
        count: Finite values, zeros included.
        zeros: Values equal to 0.
        nan: NaNs.
        positive_infinity: Values +inf.
        negative_infinity: Values −inf.
        minimum: Smallest finite value, zeros included; +inf without one.
        maximum: Largest finite value; −inf without one.
        total: Σx over the finite values, rounded.
        total_abs: Σ|x|, rounded.
        total_squares: Σx², rounded.
        channels: Range of each channel, where the observer was given an axis.
    """

    key: str = ""
    exponent: int = MIN_EXPONENT
    first_bin: int = 0
    counts: NDArray[np.uint64] = field(default_factory=lambda: _NO_COUNTS)
    count: int = 0
    zeros: int = 0
    nan: int = 0
    positive_infinity: int = 0
    negative_infinity: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    total_abs: float = 0.0
    total_squares: float = 0.0
    channels: ChannelRanges | None = None

    # --- making ---------------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, values: ArrayLike, key: str = "", *, axis: int | None = None) -> Sketch:
        """Sketch of an array of any shape (float16 and float32 exactly, others cast to float32).

        Args:
            values: The data; may be empty or hold NaN and infinity.
            key: Name of the sketch.
            axis: Also keep the range of each channel along this axis.

        Raises:
            CalibrationError: ``axis`` is not one of the array's.
        """
        with np.errstate(over="ignore"):  # what float32 cannot hold counts as infinite
            array = np.asarray(values).astype(np.float32)
        flat = array.ravel()
        finite = flat[np.isfinite(flat)].astype(np.float64)
        nonzero = finite[finite != 0]
        exponent = grid_exponent(float(np.abs(nonzero).max(initial=0)))
        first, counts = _bin_counts(nonzero, exponent)
        return cls(
            key=key,
            exponent=exponent,
            first_bin=first,
            counts=counts,
            count=finite.size,
            zeros=finite.size - nonzero.size,
            nan=int(np.isnan(flat).sum()),
            positive_infinity=int(np.isposinf(flat).sum()),
            negative_infinity=int(np.isneginf(flat).sum()),
            minimum=float(finite.min(initial=math.inf)) + 0.0,  # −0 becomes 0
            maximum=float(finite.max(initial=-math.inf)) + 0.0,
            total=float(finite.sum()),
            total_abs=float(np.abs(finite).sum()),
            total_squares=float(np.square(finite).sum()),
            channels=None if axis is None else _channel_ranges(array, axis, key),
        )

    def merged_with(self, other: Sketch) -> Sketch:
        """Sketch of both data sets together; exact but for the sums. The key stays this sketch's.

        Raises:
            CalibrationError: Only one of them has channels, they have other ones, or 2⁶⁴ values cannot be counted.
        """
        if self.count + self.non_finite + other.count + other.non_finite > _MAX_VALUES:
            raise CalibrationError(
                f"The sketches {self.key!r} and {other.key!r} count more than {_MAX_VALUES} values together.",
                hint="One of them is not the sketch of real data; calibrate again.",
                tensor=self.key,
            )
        exponent = max(self.exponent, other.exponent)
        first, counts = _added(self._on_grid(exponent), other._on_grid(exponent))
        return Sketch(
            key=self.key,
            exponent=exponent,
            first_bin=first,
            counts=counts,
            count=self.count + other.count,
            zeros=self.zeros + other.zeros,
            nan=self.nan + other.nan,
            positive_infinity=self.positive_infinity + other.positive_infinity,
            negative_infinity=self.negative_infinity + other.negative_infinity,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            total=self.total + other.total,
            total_abs=self.total_abs + other.total_abs,
            total_squares=self.total_squares + other.total_squares,
            channels=_merged_channels(self, other),
        )

    def renamed(self, key: str) -> Sketch:
        """The same summary under another name."""
        return replace(self, key=key)

    def _on_grid(self, exponent: int) -> tuple[int, NDArray[np.uint64]]:
        """First bin and counts on a coarser grid."""
        shift = exponent - self.exponent
        if shift == 0 or not self.counts.size:
            return self.first_bin, self.counts
        first = self.first_bin >> min(shift, 62)
        target = ((self.first_bin + np.arange(self.counts.size)) >> min(shift, 62)) - first
        starts = np.flatnonzero(np.diff(target, prepend=-1))
        return first, np.add.reduceat(self.counts, starts)

    # --- asking ---------------------------------------------------------------------------------------------------

    @property
    def width(self) -> float:
        """Width of a bin, 2ᵏ."""
        return math.ldexp(1.0, self.exponent)

    @property
    def empty(self) -> bool:
        """Whether no finite value was seen."""
        return self.count == 0

    @property
    def absmax(self) -> float:
        """Largest finite magnitude; 0 without values."""
        return 0.0 if self.empty else max(abs(self.minimum), abs(self.maximum))

    @property
    def non_finite(self) -> int:
        """NaNs and infinities."""
        return self.nan + self.positive_infinity + self.negative_infinity

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return self._identity() == other._identity() and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    def _identity(self) -> tuple[object, ...]:
        return (
            self.key, self.exponent, self.first_bin, self.count, self.zeros, self.nan, self.positive_infinity,
            self.negative_infinity, self.minimum, self.maximum, self.channels,
        )  # fmt: skip

    # --- serialized form ------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Serialized form; equal sketches give equal bytes, but for the sums.

        Raises:
            CalibrationError: The key is too long, or not text that UTF-8 can hold.
        """
        from ort_quant_plugin.calibration.sketch_format import serialize

        return serialize(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Sketch:
        """Read one serialized sketch.

        Raises:
            CalibrationError: The bytes are not a sketch, of another version, cut off or damaged.
        """
        from ort_quant_plugin.calibration.sketch_format import deserialize

        return deserialize(data)

    @classmethod
    def split(cls, data: bytes) -> list[Sketch]:
        """Read sketches that were written one behind the other.

        Raises:
            CalibrationError: As :meth:`from_bytes`.
        """
        from ort_quant_plugin.calibration.sketch_format import deserialize_all

        return list(deserialize_all(data))


def merge(sketches: Iterable[Sketch]) -> dict[str, Sketch]:
    """Merge sketches of the same key; keys in order of first appearance."""
    groups: dict[str, list[Sketch]] = {}
    for sketch in sketches:
        groups.setdefault(sketch.key, []).append(sketch)
    return {key: reduce(Sketch.merged_with, group) for key, group in groups.items()}


def _bin_counts(nonzero: NDArray[np.float64], exponent: int) -> tuple[int, NDArray[np.uint64]]:
    if not nonzero.size:
        return 0, _NO_COUNTS
    index = np.floor(np.ldexp(nonzero, -exponent)).astype(np.int64)
    first = int(index.min())
    return first, np.bincount(index - first).astype(np.uint64)


def _added(a: tuple[int, NDArray[np.uint64]], b: tuple[int, NDArray[np.uint64]]) -> tuple[int, NDArray[np.uint64]]:
    if not a[1].size or not b[1].size:
        return a if a[1].size else b
    first = min(a[0], b[0])
    total = np.zeros(max(a[0] + a[1].size, b[0] + b[1].size) - first, np.uint64)
    for begin, counts in (a, b):
        total[begin - first : begin - first + counts.size] += counts
    return first, total


def _channel_ranges(array: NDArray[np.float32], axis: int, key: str) -> ChannelRanges:
    if not -array.ndim <= axis < array.ndim:
        raise CalibrationError(
            f"Tensor {key!r} of rank {array.ndim} has no axis {axis}.",
            hint=f"Give an axis in [{-array.ndim}, {array.ndim - 1}]." if array.ndim else "Give no axis for a scalar.",
            tensor=key,
            axis=axis,
        )
    rows = np.moveaxis(array, axis, 0)
    rows = rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))
    finite = np.isfinite(rows)
    return ChannelRanges(
        axis,
        rows.min(axis=1, initial=math.inf, where=finite) + np.float32(0),
        rows.max(axis=1, initial=-math.inf, where=finite) + np.float32(0),
    )


def _merged_channels(a: Sketch, b: Sketch) -> ChannelRanges | None:
    one, two = a.channels, b.channels
    if one is None and two is None:
        return None
    if one is None or two is None or one.axis != two.axis or one.minimum.size != two.minimum.size:
        raise CalibrationError(
            f"The sketches {a.key!r} and {b.key!r} cannot be merged: their channels differ.",
            hint="Merge sketches of one tensor, observed along one axis of constant size.",
            tensor=a.key,
        )
    return ChannelRanges(one.axis, np.minimum(one.minimum, two.minimum), np.maximum(one.maximum, two.maximum))
