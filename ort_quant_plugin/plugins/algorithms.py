"""Registered methods and weight quantizers as the algorithms a configuration may choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ort_quant_plugin.calibration.methods.base import CalibrationMethod
    from ort_quant_plugin.config.algorithms import AlgorithmSpec
    from ort_quant_plugin.plugins.registry import Registry
    from ort_quant_plugin.weights.base import WeightQuantizer

__all__ = ["activation_algorithms", "weight_algorithms"]


def activation_algorithms(methods: Registry[CalibrationMethod]) -> dict[str, AlgorithmSpec]:
    """Every legal ``act_algo``; AMCT's own keep the checks the configuration has for them."""
    from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS, AlgorithmSpec

    added = {m.name: AlgorithmSpec(m.name, m.summary, tuple(m.parameters)) for m in methods.values()}
    return {**added, **ACTIVATION_ALGORITHMS}


def weight_algorithms(quantizers: Registry[WeightQuantizer]) -> dict[str, AlgorithmSpec]:
    """Every legal ``wts_algo`` beyond those the package ships; a plugin may serve a name that is refused otherwise."""
    from ort_quant_plugin.config.algorithms import AlgorithmSpec
    from ort_quant_plugin.weights import BUILTIN_WEIGHT_QUANTIZERS

    shipped = {quantizer.name for quantizer in BUILTIN_WEIGHT_QUANTIZERS}
    return {
        name: AlgorithmSpec(name, getattr(quantizer, "summary", ""), tuple(getattr(quantizer, "parameters", ())))
        for name, quantizer in quantizers.items()
        if name not in shipped
    }
