"""Percentile: the smallest and the largest few values are clipped (TPU-MLIR ``percentile9999``).

::

    low = x at position (1 − p/100)·(n − 1) of the n sorted values,  high = x at position p/100·(n − 1)

with linear interpolation between two neighbours, on the signed values. TPU-MLIR means a constant p but lets it drift
from operator to operator; here it is constant. A symmetric grid takes the bound of larger magnitude.

On the sketch each bound lies within one bin, 1/4096 of the largest magnitude at most, of the one on all values, and is
exact where it falls on zeros, the minimum or the maximum.

:func:`aimet_percentile` is the other published form, on AIMET's histogram.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import quantile
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS
from ort_quant_plugin.calibration.methods.threshold import flat
from ort_quant_plugin.config.parameters import Parameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["PercentileMethod", "aimet_percentile"]

_AIMET_BUCKETS = 1536  # three times the observed range, which has 512


class PercentileMethod:
    """Two-sided percentile of the signed values."""

    name = "percentile"
    summary = "clip the outermost values on either side (TPU-MLIR percentile9999)"

    parameters = (
        Parameter(
            "percentile",
            "float",
            99.99,
            "in (50, 100]",
            "Position of the upper bound in the sorted data, in percent; the lower bound mirrors it.",
            lambda value: 50 < value <= 100,
        ),
        *GRID_PARAMETERS,
    )

    def choose(self, sketch: Sketch, grid: Grid, *, percentile: float = 99.99, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        share = percentile / 100
        return grid.params(quantile(sketch, 1 - share), quantile(sketch, share))

    def reference(self, values: ArrayLike, grid: Grid, *, percentile: float = 99.99, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        share = percentile / 100
        low, high = np.quantile(flat(values), [1 - share, share])
        return grid.params(float(low), float(high))


def aimet_percentile(values: ArrayLike, percentile: float = 100.0) -> tuple[float, float]:
    """AIMET 2.42's percentile bounds of one batch.

    Its histogram has 1536 buckets of 1/512 of the observed range, an edge on 0, and counts in float32. The lower bound
    is the left edge of the first bucket whose cumulative share reaches ``1 − p/100``; the upper bound the right edge of
    the last bucket whose cumulative share stays below ``p/100`` and that begins below the maximum.

    Args:
        values: Finite values, any shape, at least one.
        percentile: p in percent; 100 gives the observed range.

    Returns:
        ``(low, high)``, widened to contain 0.
    """
    data = np.asarray(values, np.float32).ravel()
    low, high = data.min(), data.max()
    size = ((high - low) or np.float32(0.01)) / np.float32(512)
    if percentile >= 100 or high + size == high:
        return min(float(low), 0.0), max(float(high), 0.0)
    first = int(np.floor(low / size)) - 512
    counts = np.bincount((np.floor(data / size) - first).astype(np.int64), minlength=_AIMET_BUCKETS)
    shares = np.cumsum(counts / data.size)
    edges = (first + np.arange(counts.size)) * float(size)
    bottom = float(edges[int(np.argmax(shares >= 1 - percentile / 100))])
    below = np.flatnonzero((shares < percentile / 100) & (edges < float(high)))
    top = float(edges[below[-1]]) + float(size) if below.size else bottom
    if top <= bottom:
        top = bottom + float(size)
    return min(bottom, 0.0), max(top, 0.0)
