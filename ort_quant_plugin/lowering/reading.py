"""Read the layers of a lowered model back: what ``ort-quant inspect`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.lowering.ascend import LAYER_KINDS
from ort_quant_plugin.lowering.forms import DOMAIN
from ort_quant_plugin.model import const_array
from ort_quant_plugin.report import Granularity, LayerReport

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["is_lowered", "lowered_layers"]

_QUANTIZED_OUTPUTS = {0: "y_scale", 2: "y2_scale"}


def is_lowered(model: ir.Model) -> bool:
    """Whether a model holds int8 layers of ours."""
    return any(node.domain == DOMAIN and node.op_type in LAYER_KINDS for node in model.graph)


def lowered_layers(model: ir.Model) -> list[LayerReport]:
    """The int8 layers in graph order; a QPool that takes maxima is data movement, no layer."""
    return [
        _report(node)
        for node in model.graph
        if node.domain == DOMAIN and node.op_type in LAYER_KINDS and not _takes_maxima(node)
    ]


def _takes_maxima(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    return node.op_type == "QPool" and mode is not None and mode.as_string() == "max"


def _report(node: ir.Node) -> LayerReport:
    name = str(node.name)
    if node.op_type == "QAdd":
        attributes = node.attributes
        return LayerReport(
            name, "QAdd", "quantized", None, attributes["a_scale"].as_float(), attributes["a_offset"].as_int()
        )
    scale = _input_scale(node.inputs[0])
    offset = node.attributes["x_offset"].as_int() if "x_offset" in node.attributes else 0
    if node.op_type == "QPool" or scale is None:
        return LayerReport(name, node.op_type, "quantized", None, scale, offset)
    deq = const_array(node.inputs[2])
    assert deq is not None  # the operator takes constants only
    weights = deq.astype(np.float32) / np.float32(scale)
    granularity: Granularity = "per-channel" if deq.size > 1 else "per-tensor"
    bounds = float(weights.min()), float(weights.max())
    return LayerReport(name, node.op_type, "quantized", None, scale, offset, bounds, granularity)


def _input_scale(value: ir.Value | None) -> float | None:
    """``scale_d`` of codes: from whatever quantized them, behind any data movement."""
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type == "QuantizeLayout":
            return float(np.float32(1) / np.float32(producer.attributes["scale"].as_float()))
        if producer.domain == DOMAIN and not _takes_maxima(producer):
            attribute = producer.attributes.get(_QUANTIZED_OUTPUTS.get(value.index() or 0, ""))
            return None if attribute is None else float(np.float32(1) / np.float32(attribute.as_float()))
        value = producer.inputs[0]
    return None
