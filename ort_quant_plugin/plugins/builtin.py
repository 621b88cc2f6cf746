"""The built-in plugin: what the package ships, registered through the hooks any plugin uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ort_quant_plugin.plugins.hookspecs import hookimpl
from ort_quant_plugin.plugins.kinds import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from ort_quant_plugin.calibration.methods.base import CalibrationMethod
    from ort_quant_plugin.export.base import Exporter
    from ort_quant_plugin.gates.metrics.base import GateMetric
    from ort_quant_plugin.passes.base import GraphPass
    from ort_quant_plugin.plugins.registry import Registrar
    from ort_quant_plugin.weights.base import WeightQuantizer

__all__ = [
    "ort_quant_register_exporters",
    "ort_quant_register_gate_metrics",
    "ort_quant_register_methods",
    "ort_quant_register_metrics",
    "ort_quant_register_passes",
    "ort_quant_register_targets",
    "ort_quant_register_weight_quantizers",
]

_TARGETS = (
    Target("fake_quant", "accuracy simulation in ONNX Runtime: float arithmetic on quantized values"),
    Target("ascend", "int8 deploy model for Ascend devices, input of ATC"),
    Target("ort", "int8 model for ONNX Runtime on CPUs, with the bits of fake_quant; needs our library"),
    Target("qdq", "int8 model for stock ONNX Runtime (QuantizeLinear/DequantizeLinear), no library needed"),
)


@hookimpl
def ort_quant_register_methods(registry: Registrar[CalibrationMethod]) -> None:
    """Register AMCT's two methods."""
    from ort_quant_plugin.calibration.methods import BUILTIN_METHODS

    for method in BUILTIN_METHODS:
        registry.add(method.name, method)


@hookimpl
def ort_quant_register_weight_quantizers(registry: Registrar[WeightQuantizer]) -> None:
    """Register AMCT's ARQ."""
    from ort_quant_plugin.weights import BUILTIN_WEIGHT_QUANTIZERS

    for quantizer in BUILTIN_WEIGHT_QUANTIZERS:
        registry.add(quantizer.name, quantizer)


@hookimpl
def ort_quant_register_passes(registry: Registrar[GraphPass]) -> None:
    """Register the passes of graph preparation in the order in which they run."""
    from ort_quant_plugin.passes.pipeline import BUILTIN_PASSES

    for graph_pass in BUILTIN_PASSES:
        registry.add(graph_pass.name, graph_pass)


@hookimpl
def ort_quant_register_targets(registry: Registrar[Target]) -> None:
    """Register the targets of the built-in exporters."""
    for target in _TARGETS:
        registry.add(target.name, target)


@hookimpl
def ort_quant_register_exporters(registry: Registrar[Exporter]) -> None:
    """Register one exporter per built-in target."""
    from ort_quant_plugin.export import BUILTIN_EXPORTERS

    for exporter in BUILTIN_EXPORTERS:
        registry.add(exporter.name, exporter)


@hookimpl
def ort_quant_register_metrics(registry: Registrar[Callable[[Any, Any], float]]) -> None:
    """Register the metrics ``compare`` prints."""
    from ort_quant_plugin.metrics import BUILTIN_METRICS

    for name, metric in BUILTIN_METRICS.items():
        registry.add(name, metric)


@hookimpl
def ort_quant_register_gate_metrics(registry: Registrar[GateMetric]) -> None:
    """Register the metrics gates can have."""
    from ort_quant_plugin.gates.metrics import BUILTIN_GATE_METRICS

    for metric in BUILTIN_GATE_METRICS:
        registry.add(metric.name, metric)
