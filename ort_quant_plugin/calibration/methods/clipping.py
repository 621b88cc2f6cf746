"""From the interval a search found to parameters: what KLD, entropy, histogram and tf_enhanced share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.qparams import FLT_EPSILON

if TYPE_CHECKING:
    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["beyond_clipping", "interval_params"]

_ABSURD = 1e30
"""No search narrows a range so far that one like this gets a legal scale."""


def beyond_clipping(grid: Grid, minimum: float, maximum: float) -> bool:
    """Whether clipping could not help, so that the whole range ``[minimum, maximum]`` decides.

    So it is for a single value, for data whose scale is below FLT_EPSILON (it becomes 1) and for data whose scale is
    refused.
    """
    span = max(maximum, 0.0) - min(minimum, 0.0)
    return minimum == maximum or span < grid.steps * float(FLT_EPSILON) or span > _ABSURD


def interval_params(grid: Grid, low: float, high: float, minimum: float, maximum: float) -> QuantParams:
    """Parameters of ``[low, high]``, cut to the data's ``[minimum, maximum]`` and widened to contain 0.

    A cut must not turn a usable scale into the 1 that stands for "nothing here": where the scale would fall below
    FLT_EPSILON, the whole range is taken.

    Raises:
        NumericsError: The range is too wide for a scale.
    """
    low, high = max(low, min(minimum, 0.0)), min(high, max(maximum, 0.0))
    if high - low < grid.steps * float(FLT_EPSILON):
        low, high = minimum, maximum
    return grid.params(low, high)
