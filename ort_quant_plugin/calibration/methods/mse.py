"""MSE: OCTAV, optimal clipping by a fixed point in the style of Newton's method (TPU-MLIR ``mse``).

From ``s₀ = Σ|x| / #{x ≠ 0}``, at most 20 times::

    s ← Σ_{|x| > s} |x|  /  ( 4^(−b)/(3u) · #{|x| ≤ s} + #{|x| > s} )

with u = 4 where the minimum is 0 (below 1e-6 in magnitude), else 1. A step below 1e-6 ends the search and is not taken;
all zeros give 1. Zeros count as values ``≤ s``, as in TPU-MLIR's code; its paper leaves them out. TPU-MLIR averages the
thresholds of single samples; here all values are one sample, so that batches do not matter.

Both tolerances are absolute, hence meant for activations of ordinary size: the start is kept where all magnitudes
are below 1e-6.

On the sketch sums over part of a bin take its values as spread evenly. The threshold lies within two bins (1/2048 of
the largest magnitude) of the one on all values for the distributions tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import magnitude_bins
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS
from ort_quant_plugin.calibration.methods.threshold import clipped_params, flat

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from ort_quant_plugin.calibration.distribution import Bins
    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["MseMethod", "octav_threshold"]

_MOST_STEPS, _TOLERANCE = 20, 1e-6


class MseMethod:
    """The clip value of least squared error, by OCTAV."""

    name = "mse"
    summary = "the clip value of least squared error, by OCTAV's fixed point (TPU-MLIR mse)"

    parameters = GRID_PARAMETERS

    def choose(self, sketch: Sketch, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        tail = _Tail(magnitude_bins(sketch))
        threshold = _fixed_point(tail, sketch.count, sketch.minimum, grid.bits)
        return clipped_params(grid, sketch.minimum, sketch.maximum, threshold)

    def reference(self, values: ArrayLike, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        data = flat(values)
        return clipped_params(grid, float(data.min()), float(data.max()), octav_threshold(data, grid.bits))


def octav_threshold(values: ArrayLike, bits: int = 8) -> float:
    """TPU-MLIR's threshold of one sample, before its cap at the largest magnitude.

    Args:
        values: Finite values, any shape, at least one.
        bits: b.
    """
    data = flat(values)
    magnitudes = np.abs(data)

    def tail(threshold: float) -> tuple[float, float]:
        above = magnitudes[magnitudes > threshold]
        return float(above.sum()), float(above.size)

    return _fixed_point(tail, data.size, float(data.min()), bits)


def _fixed_point(tail: Callable[[float], tuple[float, float]], count: int, minimum: float, bits: int) -> float:
    """Iterate; ``tail(s)`` gives sum and number of the magnitudes above s."""
    total, nonzero = tail(0.0)
    if not nonzero:
        return 1.0
    weight = 4.0**-bits / (3 * (4 if abs(minimum) < _TOLERANCE else 1))
    threshold = total / nonzero
    for _ in range(_MOST_STEPS):
        above, number = tail(threshold)
        following = above / (weight * (count - number) + number)
        if abs(following - threshold) < _TOLERANCE:
            break
        threshold = following
    return threshold


class _Tail:
    """Sum and number of the magnitudes above a threshold, from a sketch; a call looks at one bin."""

    def __init__(self, magnitudes: Bins) -> None:
        self._lower, self._upper, self._counts = magnitudes
        sums = self._counts * (self._lower + self._upper) / 2
        self._sum_from = np.append(np.cumsum(sums[::-1])[::-1], 0.0)
        self._count_from = np.append(np.cumsum(self._counts[::-1])[::-1], 0.0)

    def __call__(self, threshold: float) -> tuple[float, float]:
        whole = int(np.searchsorted(self._lower, threshold, side="right"))  # bins from here on lie above
        total, number = float(self._sum_from[whole]), float(self._count_from[whole])
        cut = whole - 1
        if cut >= 0 and threshold < self._upper[cut]:
            upper = float(self._upper[cut])
            part = float(self._counts[cut]) * (upper - threshold) / (upper - float(self._lower[cut]))
            total, number = total + part * (upper + threshold) / 2, number + part
        return total, number
