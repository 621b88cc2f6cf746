"""IFMR: percentile bounds, then the upper bound of least squared error among scaled candidates (AMCT's default)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.calibration.methods.base import ObserverSpec, common_attributes
from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.config.algorithms import Parameter
    from ort_quant_plugin.config.model import ActivationConfig

__all__ = ["IfmrMethod"]


class IfmrMethod:
    """Input Feature Map Reconstruction, computed by ``amct.customop::IFMR``."""

    name = "ifmr"
    summary = "search the clip value with the least squared error around a percentile (AMCT's default)"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """``max_percentile, min_percentile, search_range, search_step``."""
        return tuple(ACTIVATION_ALGORITHMS[self.name].parameters)

    def observer(
        self, activation: ActivationConfig, *, batch_num: int, object_layers: Sequence[str], record_file: str
    ) -> ObserverSpec:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        start, end = activation.parameters["search_range"]
        attributes = common_attributes(
            activation, batch_num=batch_num, object_layers=object_layers, record_file=record_file
        )
        attributes |= {
            "start_ratio": float(start),
            "end_ratio": float(end),
            "step": float(activation.parameters["search_step"]),
            "max_percentile": float(activation.parameters["max_percentile"]),
            "min_percentile": float(activation.parameters["min_percentile"]),
        }
        return ObserverSpec("amct.customop", "IFMR", attributes)
