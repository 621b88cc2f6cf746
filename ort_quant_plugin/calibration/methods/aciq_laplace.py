"""ACIQ for a Laplace distribution: the optimal clip value from the mean absolute deviation (TPU-MLIR ``aciq_laplace``).

::

    β = mean |x − mean(x)|,        T = α(b)·β

α is published for 8 and 4 bits: 9.89675982 and 5.02864014. They are the minimum of ACIQ's model of the squared error
for β = 1, ``2e^(−α) + α²/(3·4^b)``, at ``α·e^α = 3·4^b``; :func:`clip_factor` solves that for the widths without a
published factor (16 bits: 20.3, and those of a reduced range). TPU-MLIR's lists confuse 4 with 8 bits in places; not
here.

T clips around 0 on both sides, which suits data spread around 0. A constant has no deviation; nothing is clipped then.
TPU-MLIR averages the thresholds of single samples; here all values are one sample.

On the sketch values are taken as spread evenly in their bin, so β is off by a bin (1/4096 of the largest magnitude) at
most. For the distributions tested T is within 0.1 %.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import bins
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS
from ort_quant_plugin.calibration.methods.threshold import clipped_params, flat

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["AciqLaplaceMethod", "aciq_laplace_threshold", "clip_factor"]

_PUBLISHED = {4: 5.02864014, 8: 9.89675982}


class AciqLaplaceMethod:
    """ACIQ's clip value for a Laplace distribution."""

    name = "aciq_laplace"
    summary = "the optimal clip value of a Laplace distribution with the data's mean deviation (TPU-MLIR aciq_laplace)"

    parameters = GRID_PARAMETERS

    def choose(self, sketch: Sketch, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        threshold = clip_factor(grid.bits) * _mean_deviation(sketch)
        return clipped_params(grid, sketch.minimum, sketch.maximum, threshold)

    def reference(self, values: ArrayLike, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        data = flat(values)
        threshold = aciq_laplace_threshold(data, grid.bits)
        return clipped_params(grid, float(data.min()), float(data.max()), threshold)


def aciq_laplace_threshold(values: ArrayLike, bits: int = 8) -> float:
    """TPU-MLIR's threshold of one sample, before its cap at the largest magnitude; 0 for a constant.

    Args:
        values: Finite values, any shape, at least one.
        bits: b.
    """
    data = flat(values)
    if data.min() == data.max():
        return 0.0  # the rounded mean may differ from the constant
    return clip_factor(bits) * float(np.abs(data - data.mean()).mean())


def _mean_deviation(sketch: Sketch) -> float:
    """``mean |x − mean(x)|`` of a sketch; the zeros as a bin without width."""
    if sketch.minimum == sketch.maximum:
        return 0.0
    lower, upper, counts = bins(sketch)
    mean = float((counts * (lower + upper)).sum()) / 2 / sketch.count
    split = (lower < mean) & (mean < upper)
    inside = ((mean - lower) ** 2 + (upper - mean) ** 2) / np.where(split, 2 * (upper - lower), 1)
    deviations = np.where(split, inside, np.abs((lower + upper) / 2 - mean))
    return (float((counts * deviations).sum()) + sketch.zeros * abs(mean)) / sketch.count


@cache
def clip_factor(bits: int) -> float:
    """α for an integer of that width: as published for 4 and 8 bits, else from the model."""
    return _PUBLISHED.get(bits) or _optimum(bits)


def _optimum(bits: int) -> float:
    """The root of ``α + ln α = ln(3·4^b)`` by Newton's method, from above where it converges without overshoot."""
    target = math.log(3) + bits * math.log(4)
    alpha = target
    for _ in range(32):
        alpha -= (alpha + math.log(alpha) - target) / (1 + 1 / alpha)
    return alpha
