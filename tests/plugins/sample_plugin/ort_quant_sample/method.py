"""A calibration method: the whole range of the data, the largest value raised by a margin."""

from __future__ import annotations

from ort_quant_plugin.calibration.methods import ObserverSpec
from ort_quant_plugin.calibration.methods.base import common_attributes
from ort_quant_plugin.config import Parameter


class MinmaxPlus:
    """Minimum and maximum of all calibration data, computed by the IFMR op."""

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

    def observer(self, activation, *, batch_num, object_layers, record_file):
        """Percentile 1 is the true extreme, and a search over two candidates leaves the first no rival."""
        factor = 1.0 + activation.parameters["margin"]
        attributes = common_attributes(
            activation, batch_num=batch_num, object_layers=object_layers, record_file=record_file
        )
        attributes |= {
            "max_percentile": 1.0,
            "min_percentile": 1.0,
            "start_ratio": factor,
            # IFMR wants a step inside its range: the second candidate is so wide that all values would round to 0.
            "end_ratio": factor + 1000.0,
            "step": 600.0,
        }
        return ObserverSpec("amct.customop", "IFMR", attributes)
