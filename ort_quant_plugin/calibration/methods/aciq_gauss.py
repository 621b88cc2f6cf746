"""ACIQ for a Gaussian: the optimal clip value, its deviation estimated from the extremes (TPU-MLIR ``aciq_gauss``).

::

    σ = (max − min)/2 · 0.35·(1 + √(π·ln 4)) / √(2·ln n),        T = α(b)·σ

α is published for 8 and 4 bits: 3.92403337 and 2.55913642. They are the minimum of ACIQ's model of the squared error
for σ = 1, clipping plus uniform rounding noise, at ``2φ(α) − 2αQ(α) = α/(3·4^b)`` with the standard normal density φ
and upper tail Q; :func:`clip_factor` solves that for the widths without a published factor (16 bits: 6.1, and
those of a reduced range).

T clips around 0 on both sides, which suits data spread around 0. A single value or a constant has no deviation; nothing
is clipped then. TPU-MLIR averages the thresholds of single samples; here all values are one sample.

Only the extremes and the number of values count, all exact in a sketch: both forms choose the same.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS
from ort_quant_plugin.calibration.methods.threshold import clipped_params, flat

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["AciqGaussMethod", "aciq_gauss_threshold", "clip_factor"]

_PUBLISHED = {4: 2.55913642, 8: 3.92403337}


class AciqGaussMethod:
    """ACIQ's clip value for a Gaussian."""

    name = "aciq_gauss"
    summary = "the optimal clip value of a Gaussian that has the data's extremes (TPU-MLIR aciq_gauss)"

    parameters = GRID_PARAMETERS

    def choose(self, sketch: Sketch, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        low, high = sketch.minimum, sketch.maximum
        return clipped_params(grid, low, high, _threshold(low, high, sketch.count, grid.bits))

    def reference(self, values: ArrayLike, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        data = flat(values)
        threshold = aciq_gauss_threshold(data, grid.bits)
        return clipped_params(grid, float(data.min()), float(data.max()), threshold)


def aciq_gauss_threshold(values: ArrayLike, bits: int = 8) -> float:
    """TPU-MLIR's threshold of one sample, before its cap at the largest magnitude; 0 for a constant.

    Args:
        values: Finite values, any shape, at least one.
        bits: b.
    """
    data = flat(values)
    return _threshold(float(data.min()), float(data.max()), data.size, bits)


def _threshold(low: float, high: float, count: int, bits: int) -> float:
    if low == high:
        return 0.0
    deviation = (high - low) * 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(count))
    return clip_factor(bits) * deviation


@cache
def clip_factor(bits: int) -> float:
    """α for an integer of that width: as published for 4 and 8 bits, else from the model."""
    return _PUBLISHED.get(bits) or _optimum(bits)


def _optimum(bits: int) -> float:
    """The root in [0, 16] by bisection: clipping falls with α, rounding noise grows."""
    low, high = 0.0, 16.0
    for _ in range(64):
        alpha = (low + high) / 2
        density = math.exp(-alpha * alpha / 2) / math.sqrt(2 * math.pi)
        tail = math.erfc(alpha / math.sqrt(2)) / 2
        if 2 * (density - alpha * tail) > alpha / (3 * 4.0**bits):
            low = alpha
        else:
            high = alpha
    return (low + high) / 2
