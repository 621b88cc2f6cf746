"""What is quantized with which numbers: the record file joined with the graph, before any model is written.

All exporters read the same :class:`Plan`, so the models they write agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import NumericsError, RecordError
from ort_quant_plugin.layers import Layer, LayerTable, find_layers
from ort_quant_plugin.model import const_array
from ort_quant_plugin.passes.rewrite import original_names
from ort_quant_plugin.qparams import QuantParams, quantize, quantize_bias
from ort_quant_plugin.record import resolve_key
from ort_quant_plugin.weights.base import broadcast_scale, channel_major, channel_minor

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from ort_quant_plugin.record import LayerRecord, Record

__all__ = ["LayerPlan", "Plan", "build_plan"]


@dataclass(frozen=True)
class LayerPlan:
    """Numbers of one quantized layer.

    Attributes:
        layer: The layer in the model the plan was built from.
        activation: Parameters of its input tensor.
        scale_w: float32, (Cout,) or (1,); ones for AveragePool.
        integers: int8 weight in the weight's own shape; ``None`` for AveragePool.
        bias: int32 (Cout,) or ``None``.
        weight_bits: Width of the weight.
        precision_mode: ``DEFAULT``, or ``FORCE_FP16_QUANT`` to simulate the float16 quantizer of the hardware.
    """

    layer: Layer
    activation: QuantParams
    scale_w: NDArray[np.float32]
    integers: NDArray[np.int8] | None
    bias: NDArray[np.int32] | None
    weight_bits: int = 8
    precision_mode: str = "DEFAULT"

    @property
    def deq_scale(self) -> NDArray[np.float32]:
        """``scale_d · scale_w`` in float32 (N5)."""
        return np.float32(self.activation.scale) * self.scale_w


@dataclass
class Plan:
    """Everything an exporter needs besides the graph.

    Attributes:
        table: Verdicts on all candidate nodes.
        layers: Quantized layers by name, in graph order.
        tensors: Quantized single tensors by (node name, input index).
        outputs: Ranges of layer outputs by layer name (used by the QDQ model only).
        fused: Names of the original nodes that a node now stands for.
        notes: Remarks on the record.
    """

    table: LayerTable
    layers: dict[str, LayerPlan] = field(default_factory=dict)
    tensors: dict[tuple[str, int], QuantParams] = field(default_factory=dict)
    outputs: dict[str, QuantParams] = field(default_factory=dict)
    fused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def build_plan(model: ir.Model, record: Record) -> Plan:
    """Join a calibrated model (observers removed, weights fake-quantized) with its record.

    Weights of the model may be the fake-quantized ones (``W_q·S``) or the original floats: dividing by
    the recorded scale and rounding gives the same integers.

    Raises:
        RecordError: The record is empty, incomplete or of another model.
        NumericsError: A bias does not fit into int32, or a weight is not finite.
    """
    table = find_layers(model)
    fused = {str(node.name): names for node in model.graph if len(names := original_names(node)) > 1}
    plan = Plan(table, fused=fused, notes=record.validate(table))
    for key, entry in record.items():
        meaning = resolve_key(key, table)
        assert meaning is not None  # validate() refuses keys of unknown layers
        if entry.only_skips_fusion:
            continue
        if meaning.kind == "layer":
            plan.layers[key] = _layer_plan(table[key], entry)
        elif meaning.kind == "output":
            plan.outputs[meaning.layer] = _activation(entry)
        else:
            plan.tensors[meaning.layer, meaning.index] = _activation(entry)
    order = {name: i for i, name in enumerate(table)}
    plan.layers = dict(sorted(plan.layers.items(), key=lambda item: order[item[0]]))
    return plan


def _activation(entry: LayerRecord) -> QuantParams:
    assert entry.scale_d is not None
    assert entry.offset_d is not None
    if entry.act_bits != 8:
        raise RecordError(
            f"Layer {entry.key!r}: act_type {entry.act_type!r} cannot be exported; only INT8 activations can.",
            hint="Set num_bits of its activation_quant_params to 8 and calibrate again.",
            layer=entry.key,
        )
    return QuantParams(np.float32(entry.scale_d), entry.offset_d)


def _layer_plan(layer: Layer, entry: LayerRecord) -> LayerPlan:
    activation = _activation(entry)
    if any(entry.shift_bit):
        raise RecordError(
            f"Layer {layer.name!r}: shift_bit is set; joint quantization is not supported.",
            hint="Delete the shift_bit lines from the record file.",
            layer=layer.name,
        )
    scale_w = np.asarray(entry.scale_w or (1.0,), np.float32)
    bits = entry.wts_bits
    if bits not in layer.weight_bits:
        raise RecordError(
            f"Layer {layer.name!r}: wts_type {entry.wts_type!r} cannot be exported; expected one of "
            f"{', '.join(f'INT{b}' for b in layer.weight_bits)}.",
            hint="Set num_bits of its weight_quant_params to a legal width.",
            layer=layer.name,
        )
    integers = None if layer.weight is None else _weight_integers(layer, scale_w, bits)
    bias = const_array(layer.bias)
    deq_scale = np.float32(activation.scale) * scale_w
    ints = None if bias is None else quantize_bias(bias.astype(np.float32), deq_scale, layer.name)
    mode = str(entry.extras.get("fakequant_precision_mode", "DEFAULT"))
    return LayerPlan(layer, activation, scale_w, integers, ints, bits, mode)


def _weight_integers(layer: Layer, scale_w: NDArray[np.float32], bits: int) -> NDArray[np.int8]:
    weight = const_array(layer.weight)
    assert weight is not None
    values = weight.astype(np.float32)
    if not np.isfinite(values).all():
        raise NumericsError(
            f"The weight of layer {layer.name!r} holds NaN or infinite values; expected finite values.",
            hint="Repair the model, or put the layer into skip_layers.",
            layer=layer.name,
        )
    major = channel_major(values, layer)
    integers = quantize(major, broadcast_scale(scale_w, major.ndim), num_bits=bits).astype(np.int8)
    return channel_minor(integers, layer, values.shape)  # type: ignore[return-value]  # dtype is kept
