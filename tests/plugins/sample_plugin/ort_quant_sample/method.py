"""A calibration method: the whole range of the data, the largest value raised by a margin."""

from __future__ import annotations

from ort_quant_plugin.config import Parameter


class MinmaxPlus:
    """Minimum and maximum of all calibration data, the maximum raised by a margin."""

    name = "minmax_plus"
    summary = "minimum and maximum of the data, the maximum raised by a margin"
    parameters = (
        Parameter(
            "margin",
            "float",
            0.0,
            "in [0, 1]",
            "Share by which the upper bound lies above the largest value.",
            lambda value: 0 <= value <= 1,
        ),
    )

    def choose(self, sketch, grid, *, margin):
        """The sketch knows the extremes exactly; the grid turns a range into scale and offset."""
        return grid.params(sketch.minimum, sketch.maximum * (1 + margin))
