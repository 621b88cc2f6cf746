"""Min-max: the whole range of the data, nothing clipped (AIMET, ONNX Runtime, PyTorch).

::

    scale = (max(x, 0) − min(x, 0)) / (2^b − 1)                              asymmetric
    scale = the extreme of larger magnitude, / (2^(b−1) − 1) or / −2^(b−1)   symmetric (N4)

The tools agree on the range and differ in the symmetric scale: AIMET takes ``max(max/127, −min/128)``
(:func:`aimet_encoding`), PyTorch ``absmax/127.5``, ONNX Runtime ``absmax/127`` (``strict_symmetric`` here).

The sketch holds minimum and maximum, so both forms choose the same to the last bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS
from ort_quant_plugin.calibration.methods.threshold import flat
from ort_quant_plugin.qparams import FLT_EPSILON

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["MinmaxMethod", "aimet_encoding"]


class MinmaxMethod:
    """Minimum and maximum."""

    name = "minmax"
    summary = "the whole range of the data (AIMET, ONNX Runtime, PyTorch)"

    parameters = GRID_PARAMETERS

    def choose(self, sketch: Sketch, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        return grid.params(sketch.minimum, sketch.maximum)

    def reference(self, values: ArrayLike, grid: Grid, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        data = flat(values)
        return grid.params(float(data.min()), float(data.max()))


def aimet_encoding(
    low: float, high: float, bits: int = 8, *, symmetric: bool = False, strict: bool = False, unsigned: bool = False
) -> tuple[float, int]:
    """AIMET 2.42's delta and offset of a range, in float64.

    With ``mn = min(low, 0)``, ``mx = max(high, 0)``::

        δ = (mx − mn) / (2^b − 1),                          offset = round(mn/δ)     asymmetric
        δ = max(mx / (2^(b−1) − 1), −mn / 2^(b−1)),         offset = −2^(b−1)        symmetric
        δ = max(mx, −mn) / (2^(b−1) − 1),                   offset = 1 − 2^(b−1)     strictly symmetric

    rounding halves away from zero; δ is at least float32's epsilon, 1.1920929e-7.

    Args:
        low: Minimum of the data.
        high: Maximum of the data.
        bits: Width of the integer.
        symmetric: The offset is fixed.
        strict: Symmetric, without the lowest code.
        unsigned: Symmetric, but data without negative values takes the asymmetric form.

    Returns:
        ``(delta, offset)``; the offset is the negated zero point of the unsigned integer, so our offset is
        ``−2^(b−1) − offset``.
    """
    mn, mx = min(low, 0.0), max(high, 0.0)
    steps, smallest = (1 << bits) - 1, float(FLT_EPSILON)
    if not symmetric or (unsigned and mn == 0):
        delta = max((mx - mn) / steps, smallest)
        return delta, max(-math.floor(-mn / delta + 0.5), -steps)
    positive = (1 << (bits - 1)) - 1
    negative = positive if strict else positive + 1
    return max(mx / positive, -mn / negative, smallest), -negative
