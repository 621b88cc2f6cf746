"""HFMG: a merged histogram, shrunk from both sides; the interval of least squared error wins. Constant memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.calibration.methods.base import ObserverSpec, common_attributes
from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.config.algorithms import Parameter
    from ort_quant_plugin.config.model import ActivationConfig

__all__ = ["HfmgMethod"]


class HfmgMethod:
    """Histogram-based calibration, computed by ``amct.customop::HFMG``."""

    name = "hfmg"
    summary = "shrink a histogram from both sides to the interval with the least squared error"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """``num_of_bins``."""
        return tuple(ACTIVATION_ALGORITHMS[self.name].parameters)

    def observer(
        self, activation: ActivationConfig, *, batch_num: int, object_layers: Sequence[str], record_file: str
    ) -> ObserverSpec:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        attributes = common_attributes(
            activation, batch_num=batch_num, object_layers=object_layers, record_file=record_file
        )
        return ObserverSpec("amct.customop", "HFMG", {**attributes, "nbins": int(activation.parameters["num_of_bins"])})
