"""What a run did, as plain data: for people, for ``--json`` and for plugins that add to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ort_quant_plugin.calibration.search import MethodScore
    from ort_quant_plugin.export.plan import LayerPlan, Plan
    from ort_quant_plugin.layers import Layer, LayerTable
    from ort_quant_plugin.passes import PassReport

__all__ = ["ExportReport", "InspectReport", "LayerReport", "QuantizationReport", "layer_reports"]

Granularity = Literal["per-channel", "per-tensor"]


@dataclass(frozen=True)
class LayerReport:
    """One layer.

    Attributes:
        name: Node name.
        op_type: ONNX operator.
        status: ``quantized`` or ``float``; ``tensor`` for a node of which only input tensors are quantized.
        reason: Why it stays float; ``None`` for a quantized one.
        scale_d: Activation scale (> 0), ``None`` unless calibrated.
        offset_d: Activation offset, −128…127.
        scale_w: Smallest and largest weight scale.
        weight_granularity: ``per-channel`` or ``per-tensor``; ``None`` without a weight.
        weight_bits: Width of the weight.
        notes: Per target what differs (``qdq: stays float: …``).
    """

    name: str
    op_type: str
    status: Literal["quantized", "float", "tensor"]
    reason: str | None = None
    scale_d: float | None = None
    offset_d: int | None = None
    scale_w: tuple[float, float] | None = None
    weight_granularity: Granularity | None = None
    weight_bits: int | None = None
    notes: tuple[str, ...] = ()


@dataclass
class ExportReport:
    """What was written.

    Attributes:
        outputs: Model files by target; ``info`` is the layer map ``<prefix>_quant.json``.
        layers: Verdict on every candidate layer.
        notes: What a user must know.
    """

    outputs: dict[str, Path]
    layers: list[LayerReport]
    notes: list[str] = field(default_factory=list)

    @property
    def quantized(self) -> list[LayerReport]:
        """Layers that are quantized in at least one target."""
        return [layer for layer in self.layers if layer.status == "quantized"]

    @property
    def stayed_float(self) -> list[LayerReport]:
        """Layers that stay float everywhere."""
        return [layer for layer in self.layers if layer.status == "float"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return _plain(self)


@dataclass
class QuantizationReport(ExportReport):
    """The whole chain: preparation, calibration, export.

    Attributes:
        passes: What every graph pass did and declined.
        warnings: Remarks on configuration and data.
        record: The record file.
        batches: Calibration batches whose data counts.
        resumed: Batches of these that an earlier run had done.
        calibration_seconds: Wall time of the calibration run.
        seconds: Wall time of everything.
        scores: How methods that were tried on the whole net did; empty when one method was given.
        sections: Titled sections added by plugins.
    """

    passes: list[PassReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    record: Path | None = None
    batches: int = 0
    resumed: int = 0
    calibration_seconds: float = 0.0
    seconds: float = 0.0
    scores: list[MethodScore] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)


@dataclass
class InspectReport:
    """Layers of a model file.

    Attributes:
        kind: ``float``, ``calibration``, ``fake_quant``, ``deploy``, ``ort`` or ``qdq``.
        opset: Version of the default domain.
        layers: Verdict on every candidate layer.
        other_operators: How often each operator occurs that is no candidate for quantization.
        passes: What graph preparation did (float models).
        notes: Remarks.
    """

    kind: str
    opset: int
    layers: list[LayerReport]
    other_operators: dict[str, int] = field(default_factory=dict)
    passes: list[PassReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def layer_reports(
    plan: Plan, *, skipped: Mapping[str, str], notes: Mapping[str, Mapping[str, str]]
) -> list[LayerReport]:
    """Verdict on every candidate, in graph order.

    Args:
        plan: What was quantized.
        skipped: Reasons by layer for layers that could be quantized but are not.
        notes: By target, reasons by layer for staying float in that target only.
    """
    return [_layer_report(layer, plan, skipped, notes) for layer in plan.table.values()]


def _layer_report(
    layer: Layer, plan: Plan, skipped: Mapping[str, str], notes: Mapping[str, Mapping[str, str]]
) -> LayerReport:
    numbers = plan.layers.get(layer.name)
    if numbers is not None:
        remarks = tuple(
            f"{target}: stays float: {found[layer.name]}" for target, found in notes.items() if layer.name in found
        )
        return quantized_report(layer, numbers, remarks)
    if layer.kind == "tensor":
        params = [p for (name, _), p in plan.tensors.items() if name == layer.name]
        if params:
            return LayerReport(layer.name, layer.op_type, "tensor", None, float(params[0].scale), params[0].offset)
    return LayerReport(layer.name, layer.op_type, "float", float_reason(layer, skipped))


def quantized_report(layer: Layer, numbers: LayerPlan, notes: tuple[str, ...] = ()) -> LayerReport:
    """Report of a quantized layer."""
    has_weight = numbers.integers is not None
    per_channel = layer.channel_wise and (numbers.scale_w.size > 1 or layer.out_channels == 1)
    return LayerReport(
        layer.name,
        layer.op_type,
        "quantized",
        None,
        float(numbers.activation.scale),
        numbers.activation.offset,
        (float(numbers.scale_w.min()), float(numbers.scale_w.max())) if has_weight else None,
        ("per-channel" if per_channel else "per-tensor") if has_weight else None,
        numbers.weight_bits if has_weight else None,
        notes,
    )


def float_reason(layer: Layer, skipped: Mapping[str, str]) -> str:
    """Why a layer stays float."""
    if layer.reason is not None:
        return layer.reason
    if layer.kind == "tensor":
        return skipped.get(layer.name, "only its input tensors can be quantized, on request (tensor_quantize)")
    return skipped.get(layer.name, "quant_enable is false in the configuration")


def table_reports(table: LayerTable, skipped: Mapping[str, str]) -> list[LayerReport]:
    """Verdicts before calibration: what would be quantized."""
    return [
        LayerReport(layer.name, layer.op_type, "float", float_reason(layer, skipped))
        if not layer.quantizable or layer.name in skipped
        else LayerReport(
            layer.name,
            layer.op_type,
            "quantized",
            weight_granularity=None
            if layer.weight is None
            else ("per-channel" if layer.channel_wise else "per-tensor"),
        )
        for layer in table.values()
    ]
