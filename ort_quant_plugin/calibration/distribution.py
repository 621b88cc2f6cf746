"""A sketch as the distribution it stands for: what methods ask of it, in float64.

Inside a bin values are taken as spread evenly; exact zeros, minimum and maximum are known. So everything here depends
on counts, grid, minimum and maximum only, never on the rounded sums: the same for any order of the data.

A bin is at most 1/4096 of the largest magnitude wide, and no value is taken to be further away than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ort_quant_plugin.calibration.sketch import Sketch

    Floats = NDArray[np.float64]

__all__ = [
    "Bins",
    "bin_edges",
    "bins",
    "cumulative",
    "magnitude_bins",
    "magnitude_counts",
    "nth_largest",
    "nth_smallest",
    "points",
    "quantile",
    "rebinned",
]


class Bins(NamedTuple):
    """The bins with counts, in ascending order, each (m,); values lie evenly in ``[lower, upper]``.

    Attributes:
        lower: Lower edges; the first bin begins at the minimum where that is known to lie in it.
        upper: Upper edges, at least ``lower``; likewise the last one and the maximum.
        counts: Values in the bins, above 0.
    """

    lower: Floats
    upper: Floats
    counts: Floats


def bin_edges(sketch: Sketch) -> Floats:
    """(n + 1,) edges of the bins that have counts, not cut to minimum and maximum."""
    return np.asarray((sketch.first_bin + np.arange(sketch.counts.size + 1)) * sketch.width, np.float64)


def bins(sketch: Sketch) -> Bins:
    """The non-zero values; the outermost bins are cut at minimum and maximum, so that their values stay in range."""
    used = np.flatnonzero(sketch.counts)
    lower = (sketch.first_bin + used) * sketch.width
    upper = lower + sketch.width
    return Bins(
        np.maximum(lower, sketch.minimum), np.minimum(upper, sketch.maximum), sketch.counts[used].astype(np.float64)
    )


def magnitude_bins(sketch: Sketch) -> Bins:
    """The magnitudes of the non-zero values; the outermost bins are cut as far as the extremes are known."""
    counts = magnitude_counts(sketch)
    used = np.flatnonzero(counts)
    lower = used * sketch.width
    smallest = max(sketch.minimum, -sketch.maximum, 0.0)
    return Bins(
        np.maximum(lower, smallest), np.minimum(lower + sketch.width, sketch.absmax), counts[used].astype(np.float64)
    )


def points(sketch: Sketch) -> tuple[Floats, Floats]:
    """The values as weighted points: bin centres with their counts, and 0 with the exact zeros, in ascending order.

    Returns:
        ``(values, weights)``, both (m,); bins without counts are left out.
    """
    used = np.flatnonzero(sketch.counts)
    values = np.asarray((sketch.first_bin + used + 0.5) * sketch.width, np.float64)
    weights = sketch.counts[used].astype(np.float64)
    if sketch.zeros:
        place = int(np.searchsorted(values, 0.0))
        values, weights = np.insert(values, place, 0.0), np.insert(weights, place, float(sketch.zeros))
    return values, weights


def cumulative(sketch: Sketch, at: ArrayLike, *, zeros: bool = True) -> Floats:
    """Number of finite values below ``at`` (any shape), with even spread inside a bin.

    The outermost bins end at the minimum and the maximum, so nothing lies outside of them.

    Args:
        sketch: The data.
        at: Where to count.
        zeros: Whether exact zeros count.
    """
    at = np.asarray(at, np.float64)
    edges = bin_edges(sketch)
    if edges.size > 1:
        edges[0], edges[-1] = max(edges[0], sketch.minimum), min(edges[-1], sketch.maximum)
    below = np.concatenate([[0.0], np.cumsum(sketch.counts, dtype=np.float64)])
    counted: Floats = np.interp(at, edges, below)
    # np.interp gives a plateau of width 0 its last value: a sketch of one single value counts as below itself.
    counted = np.where(at <= edges[0], 0.0, counted)
    return counted + sketch.zeros * (at > 0) if zeros else counted


def rebinned(sketch: Sketch, edges: ArrayLike, *, zeros: bool = True) -> Floats:
    """(m,) counts of the bins ``[edges[i], edges[i+1])``, the last one closed; fractions where a bin is cut.

    Args:
        sketch: The data.
        edges: (m + 1,) ascending.
        zeros: Whether exact zeros count.
    """
    edges = np.asarray(edges, np.float64)
    below = cumulative(sketch, edges, zeros=zeros)
    if edges[-1] >= sketch.maximum:
        below[-1] = sketch.count - (0 if zeros else sketch.zeros)
    return np.diff(below)


def magnitude_counts(sketch: Sketch) -> NDArray[np.uint64]:
    """(n,) counts of the magnitudes on the sketch's grid: entry i is ``[i·2ᵏ, (i+1)·2ᵏ)``, zeros left out.

    A negative value on an edge counts one bin lower than its mirror image would.
    """
    first, counts = sketch.first_bin, sketch.counts
    positive = counts[max(-first, 0) :]
    negative = counts[: max(min(-first, counts.size), 0)][::-1]
    skipped = max(-first - counts.size, 0)  # bins between 0 and the nearest negative count
    folded = np.zeros(max(max(first, 0) + positive.size, skipped + negative.size), np.uint64)
    folded[max(first, 0) : max(first, 0) + positive.size] += positive
    folded[skipped : skipped + negative.size] += negative
    return folded


def nth_largest(sketch: Sketch, rank: int) -> float:
    """The rank-th largest finite value (rank from 1); exact for the extremes and zeros, else within one bin."""
    return float(_at_positions(sketch, [sketch.count - rank])[0])


def nth_smallest(sketch: Sketch, rank: int) -> float:
    """The rank-th smallest finite value (rank from 1); exact for the extremes and zeros, else within one bin."""
    return float(_at_positions(sketch, [rank - 1])[0])


def quantile(sketch: Sketch, share: float) -> float:
    """The value at position ``share·(n − 1)`` of the n sorted values, between two of them linearly interpolated.

    Args:
        sketch: At least one finite value.
        share: In [0, 1].
    """
    position = share * (sketch.count - 1)
    below = int(position)
    low, high = _at_positions(sketch, [below, below + 1])
    return float(low + (high - low) * (position - below))


def _at_positions(sketch: Sketch, positions: list[int]) -> Floats:
    """Values at positions (from 0) of the sorted data: each in the middle of its share of its bin."""
    negatives = int(sketch.counts[: max(-sketch.first_bin, 0)].sum())
    below = np.cumsum(sketch.counts.astype(np.int64))
    return np.array([_at_position(sketch, position, negatives, below) for position in positions])


def _at_position(sketch: Sketch, position: int, negatives: int, below: NDArray[np.int64]) -> float:
    if position <= 0:
        return sketch.minimum
    if position >= sketch.count - 1:
        return sketch.maximum
    if negatives <= position < negatives + sketch.zeros:
        return 0.0
    rank = position if position < negatives else position - sketch.zeros
    index = int(np.searchsorted(below, rank, side="right"))
    count = int(sketch.counts[index])
    share = (rank - (int(below[index]) - count) + 0.5) / count
    value = (sketch.first_bin + index + share) * sketch.width
    return float(min(max(value, sketch.minimum), sketch.maximum))
