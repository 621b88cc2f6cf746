"""Read the layers of a lowered model back: what ``ort-quant inspect`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.lowering.ascend import LAYER_KINDS
from ort_quant_plugin.lowering.chain import CHAIN
from ort_quant_plugin.lowering.forms import DOMAIN
from ort_quant_plugin.model import const_array
from ort_quant_plugin.passes.rewrite import original_names
from ort_quant_plugin.report import Granularity, LayerReport

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["is_lowered", "lowered_layers"]

_QUANTIZED_OUTPUTS = {0: "y_scale", 2: "y2_scale"}
_KINDS = {*LAYER_KINDS, CHAIN}
_DEQ, _STAGE_INPUTS, _STAGES_END = 2, 4, 13


def is_lowered(model: ir.Model) -> bool:
    """Whether a model holds int8 layers of ours."""
    return any(node.domain == DOMAIN and node.op_type in _KINDS for node in model.graph)


def lowered_layers(model: ir.Model) -> list[LayerReport]:
    """The int8 layers in graph order; a QPool that takes maxima is data movement, no layer."""
    reports: list[LayerReport] = []
    for node in model.graph:
        if node.domain != DOMAIN or node.op_type not in _KINDS or _takes_maxima(node):
            continue
        reports += _stages(node) if node.op_type == CHAIN else [_report(node)]
    return reports


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
    return _layer(name, node, scale, _offset(node), None if node.op_type == "QPool" else node.inputs[_DEQ])


def _stages(chain: ir.Node) -> list[LayerReport]:
    scale = _input_scale(chain.inputs[0])
    reports = []
    for number, name in enumerate(_stage_names(chain)):
        prefix = f"stage{number}_"
        deq = chain.inputs[_DEQ + number * _STAGE_INPUTS]
        reports.append(_layer(name, chain, scale, _offset(chain, prefix), deq))
        scale = _inverse(chain, f"{prefix}y_scale")
    return reports


def _stage_names(chain: ir.Node) -> list[str]:
    """The node has the name of its last stage and notes the others from there backwards."""
    weights = chain.inputs[1:_STAGES_END:_STAGE_INPUTS]
    count = sum(value is not None for value in weights)
    names = original_names(chain)[::-1]
    return names if len(names) == count else [f"{chain.name} (stage {number})" for number in range(count)]


def _layer(name: str, node: ir.Node, scale: float | None, offset: int, deq_scale: ir.Value | None) -> LayerReport:
    if deq_scale is None or scale is None:
        return LayerReport(name, node.op_type, "quantized", None, scale, offset)
    deq = const_array(deq_scale)
    assert deq is not None  # the operator takes constants only
    weights = deq.astype(np.float32) / np.float32(scale)
    granularity: Granularity = "per-channel" if deq.size > 1 else "per-tensor"
    bounds = float(weights.min()), float(weights.max())
    return LayerReport(name, node.op_type, "quantized", None, scale, offset, bounds, granularity)


def _offset(node: ir.Node, prefix: str = "") -> int:
    attribute = node.attributes.get(f"{prefix}x_offset")
    return 0 if attribute is None else attribute.as_int()


def _inverse(node: ir.Node, name: str) -> float | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else float(np.float32(1) / np.float32(attribute.as_float()))


def _input_scale(value: ir.Value | None) -> float | None:
    """``scale_d`` of codes: from whatever quantized them, behind any data movement."""
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type == "QuantizeLayout":
            return _inverse(producer, "scale")
        if producer.domain == DOMAIN and not _takes_maxima(producer):
            prefix = f"stage{len(_stage_names(producer)) - 1}_" if producer.op_type == CHAIN else ""
            return _inverse(producer, prefix + _QUANTIZED_OUTPUTS.get(value.index() or 0, ""))
        value = producer.inputs[0]
    return None
