"""Bring quantizers next to their layers: ``AscendQuant → Pad → AveragePool`` becomes ``Pad → AscendQuant → …``.

AMCT quantizes in front of an AveragePool's own Pad. Moving values and quantizing them commute, and the zeros of the Pad
stand for real zeros, so the order can be turned round; then every quantizer is read by layers only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.lowering.ascend import code_of, quantizer_of
from ort_quant_plugin.passes.rewrite import constant, is_op, set_input

if TYPE_CHECKING:
    from ort_quant_plugin.model import Names

__all__ = ["hoist_quantizers"]

_MOVES = ("Pad", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def hoist_quantizers(model: ir.Model, names: Names) -> None:
    """Move every quantizer behind the data movement that reads it."""
    for node in list(model.graph):
        quant = quantizer_of(node.inputs[0]) if node.inputs else None
        if quant is None or not is_op(node, *_MOVES) or node.outputs[0].is_graph_output():
            continue
        if is_op(node, "Pad") and not _pads_real_zeros(node, quant):
            continue
        result = node.outputs[0]
        x = quant.inputs[0]
        node.replace_input_with(0, x)
        if is_op(node, "Pad") and len(node.inputs) > 2:
            node.replace_input_with(2, None)
        result.type = ir.TensorType(ir.DataType.FLOAT)
        behind = ir.node(
            "AscendQuant", [result], {name: a.value for name, a in quant.attributes.items()}, name=names.node("quant")
        )
        behind.outputs[0].name = names.value(f"{result.name}.quant")
        behind.outputs[0].type, behind.outputs[0].shape = ir.TensorType(ir.DataType.INT8), result.shape
        for user, index in list(result.uses()):
            set_input(user, index, behind.outputs[0])
        behind.replace_input_with(0, result)
        model.graph.insert_after(node, behind)


def _pads_real_zeros(node: ir.Node, quant: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return True
    value = node.inputs[2] if len(node.inputs) > 2 else None
    array = constant(value)
    return value is None or (array is not None and int(array.reshape(-1)[0]) in {0, code_of(quant).offset})
