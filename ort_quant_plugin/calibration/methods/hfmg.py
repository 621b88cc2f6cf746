"""HFMG: a histogram, shrunk from both sides; the interval of least squared error wins (AMCT). Constant memory.

The histogram has ``num_of_bins`` bins over ``[min, max]``. Each turn walks ``ceil(n/100000)`` counts inwards from
either side and moves the side that passed more bins (the right one of equals), down to a quarter of the bins; every
interval met is a candidate. Its loss is that of cutting it into 2^b cells::

    Σ over all bins  ∫ density·(x − c(x))² dx

with c(x) the centre of the cell of x, or of the outer cell beyond the interval, for values spread evenly in their bin;
the first least one wins. Then the formulas of min-max, the interval widened to 0. A scale below float64's epsilon
becomes 1. Only width and symmetry of the grid count: AMCT has no strict or unsigned form. Where bins are narrower than
float32's epsilon all values count in the middle bin and cells of less than that cost nothing, so the first such
candidate wins.

AMCT merges batch by batch, rounding where bins are split, so the order of batches matters there. The sketch form makes
the histogram from the sketch of all data (counts rounded down at bin edges) and takes the loss in float64, so order
does not matter. Both walk into tails of a few counts a bin, where a single count turns the path. At 8 bits the
intervals they choose cost the same within 1 % on the histogram of all values. The error of the scale on the values
themselves, which HFMG does not look at, is mostly the same and up to 5 % lower or higher, no more than between two
orders of the batches in the published form; values on a grid of their own (pixels) may differ more. At 4 bits, with the
ends deep in the data, both figures are 15 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import cumulative
from ort_quant_plugin.calibration.methods.base import ObserverSpec, common_attributes
from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS
from ort_quant_plugin.ops import reference_calibration
from ort_quant_plugin.qparams import FLT_EPSILON, QuantParams, round_half_away, sanitize_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from ort_quant_plugin.calibration.methods.base import Grid, Storage
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.config.algorithms import Parameter
    from ort_quant_plugin.config.model import ActivationConfig

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["HfmgMethod", "candidate_losses", "search_ranges", "sketch_histogram"]

_LEAST_SCALE = np.float32(np.finfo(np.float64).eps)
_EDGES_AT_ONCE = 1 << 18


class HfmgMethod:
    """Histogram-based calibration, also computed by ``amct.customop::HFMG``."""

    name = "hfmg"
    summary = "shrink a histogram from both sides to the interval with the least squared error"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """``num_of_bins``."""
        return tuple(ACTIVATION_ALGORITHMS[self.name].parameters)

    def choose(self, sketch: Sketch, grid: Grid, *, num_of_bins: int = 4096, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        counts = sketch_histogram(sketch, num_of_bins)
        low, high = np.float32(sketch.minimum), np.float32(sketch.maximum)
        with np.errstate(over="ignore"):
            width = (high - low) / np.float32(counts.size)
        if not np.isfinite(width):
            sanitize_scale(width, "its data")  # raises
        left, right = search_ranges(counts)
        best = int(np.argmin(candidate_losses(counts, float(width), left, right, grid.bits)))
        lower, upper = low + np.float32(left[best]) * width, low + np.float32(right[best] + 1) * width
        return _params(min(lower, np.float32(0)), max(upper, np.float32(0)), grid)

    def reference(self, values: ArrayLike, grid: Grid, *, num_of_bins: int = 4096, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`; all values are one batch."""
        scale, offset = reference_calibration.hfmg(
            [values], asymmetric=not grid.symmetric, num_bits=grid.bits, num_of_bins=num_of_bins
        )
        return QuantParams(scale, offset, grid.num_bits)

    def observer(
        self,
        activation: ActivationConfig,
        *,
        batch_num: int,
        object_layers: Sequence[str],
        record_file: str,
        storage: Storage = "sketch",
    ) -> ObserverSpec:
        """See :class:`~ort_quant_plugin.calibration.methods.base.RecordingMethod`."""
        attributes = common_attributes(
            activation, batch_num=batch_num, object_layers=object_layers, record_file=record_file
        )
        attributes |= {"nbins": int(activation.parameters["num_of_bins"]), "storage": storage}
        return ObserverSpec("amct.customop", "HFMG", attributes)


def sketch_histogram(sketch: Sketch, bins: int) -> Indices:
    """(bins,) counts over ``[min, max]``; all in the middle bin where bins are narrower than float32's epsilon."""
    width = (sketch.maximum - sketch.minimum) / bins
    if width < FLT_EPSILON:
        counts = np.zeros(bins, np.int64)
        counts[bins // 2] = sketch.count
        return counts
    below = np.floor(cumulative(sketch, sketch.minimum + np.arange(bins + 1) * width)).astype(np.int64)
    below[-1] = sketch.count
    return np.diff(below)


def search_ranges(counts: Indices) -> tuple[Indices, Indices]:
    """The candidates ``(left, right)``, both (m,), bins inclusive; the whole histogram where there is none."""
    below = np.concatenate([[0], np.cumsum(counts)])
    quota = max(-(-int(below[-1]) // 100000), 1)
    # Where the walk from each bin ends, unless it meets the other side before.
    from_left = np.searchsorted(below, below[:-1] + quota).tolist()
    from_right = (np.searchsorted(below, below[1:] - quota, side="right") - 2).tolist()
    left, right, least = 0, counts.size - 1, -(-counts.size // 4)
    lefts, rights = [], []
    while right - left > least:
        next_left = min(from_left[left], right)
        next_right = max(from_right[right], next_left)
        if next_left - left > right - next_right:
            left = next_left
        else:
            right = next_right
        lefts.append(left)
        rights.append(right)
    return np.array(lefts or [left]), np.array(rights or [right])


def candidate_losses(counts: Indices, width: float, left: Indices, right: Indices, bits: int) -> Floats:
    """(m,) losses of the candidates, in squared bins; infinite where clipping alone costs more than another candidate.

    With n(x) the counts below x (linear in a bin) and d the width of a cell, integration by parts gives the error
    inside of the interval as ``n·d²/4`` less twice what the trapezoid rule on the cells' edges adds to ``∫∫ n``. For
    more than 8 bits it is taken as ``n·d²/12``: cells are narrower than bins then.
    """
    moments = _Moments(counts)
    cell = (right - left + 1) / 2.0**bits
    inside = moments.below[right + 1] - moments.below[left]
    losses = moments.clipping(left, right, cell)
    if bits > 8:
        losses += inside * cell**2 / 12
    else:
        guess = int(np.argmin(losses + inside * cell**2 / 12))
        bound = losses[guess] + moments.rounding(left[[guess]], right[[guess]], bits)[0]
        open_ = losses <= bound
        losses[open_] += moments.rounding(left[open_], right[open_], bits)
        losses[~open_] = np.inf
    return np.where(cell * width < FLT_EPSILON, 0.0, losses)


class _Moments:
    """Prefix sums of a histogram at the bin edges 0 … n, in bins: what makes thousands of candidates cheap."""

    def __init__(self, counts: Indices) -> None:
        self.counts = np.append(counts, 0).astype(np.float64)
        inner = self.counts[:-1]
        self.below = np.concatenate([[0.0], np.cumsum(inner)])
        self.first = np.concatenate([[0.0], np.cumsum(self.below[:-1] + inner / 2)])  # ∫ below
        self.second = np.concatenate([[0.0], np.cumsum(self.first[:-1] + self.below[:-1] / 2 + inner / 6)])  # ∫∫ below

    def clipping(self, left: Indices, right: Indices, cell: Floats) -> Floats:
        """(m,) squared distance of the bins outside of each interval to the centre of its outer cell."""
        positions = np.arange(self.counts.size - 1) + 0.5
        sums = [
            np.concatenate([[0.0], np.cumsum(weights)])
            for weights in (self.counts[:-1], self.counts[:-1] * positions, self.counts[:-1] * (positions**2 + 1 / 12))
        ]
        low_centre, high_centre = left + cell / 2, right + 1 - cell / 2
        low = sums[2][left] - 2 * low_centre * sums[1][left] + low_centre**2 * sums[0][left]
        zeroth, first, second = (total[-1] - total[right + 1] for total in sums)
        return low + second - 2 * high_centre * first + high_centre**2 * zeroth

    def rounding(self, left: Indices, right: Indices, bits: int) -> Floats:
        """(m,) squared distance of the bins inside of each interval to the centres of its 2^b cells."""
        cells = 1 << bits
        length, end = right - left + 1, right + 1
        width = length / cells
        share = np.arange(1, cells) / cells
        at_edges = (self.first[left] + self.first[end]) / 2
        rows = max(_EDGES_AT_ONCE // cells, 1)
        for begin in range(0, left.size, rows):
            part = slice(begin, begin + rows)
            edges = left[part, None] + length[part, None] * share
            bin_of = edges.astype(np.int64)
            within = edges - bin_of
            at_edges[part] += (
                self.first[bin_of] + within * (self.below[bin_of] + within * self.counts[bin_of] / 2)
            ).sum(axis=1)
        inside = self.below[end] - self.below[left]
        return inside * width**2 / 4 - 2 * (width * at_edges - (self.second[end] - self.second[left]))


def _params(low: np.float32, high: np.float32, grid: Grid) -> QuantParams:
    half = np.float32(1 << (grid.bits - 1))
    if grid.symmetric:
        magnitude, levels = (high, half - 1) if high > -low else (-low, half)
        return QuantParams(_scale(magnitude / np.float32(levels)), 0, grid.num_bits)
    scale = _scale((high - low) / np.float32(half + half - 1))
    return QuantParams(scale, int(-half - round_half_away(low / scale)), grid.num_bits)


def _scale(scale: np.float32) -> np.float32:
    return scale if _LEAST_SCALE <= scale < FLT_EPSILON else np.float32(sanitize_scale(scale, "its data"))
