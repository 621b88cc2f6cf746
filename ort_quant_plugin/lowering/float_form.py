"""Layers without an int8 operator of ours, in the form of the fake_quant model: float tensors that hold integers.

That form needs nothing but the ordinary operator library, and it is what the int8 operators are measured against, so
such a layer is slower but never wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.export.surgery import GraphEditor
from ort_quant_plugin.lowering.ascend import Code, code_of, is_ascend, quantizer_of
from ort_quant_plugin.model import replace_constant
from ort_quant_plugin.passes.rewrite import attribute, constant

if TYPE_CHECKING:
    from ort_quant_plugin.lowering.ascend import Layer
    from ort_quant_plugin.model import Array

__all__ = ["FloatForms"]

_DOMAIN, _FP16, _INT8 = "amct.customop", "amct.customop.extfp16", "amct.customop.extint8"


class FloatForms:
    """Rewrites quantizers, layers and dequantizers in place.

    Args:
        model: The deploy model.
        modes: ``fakequant_precision_mode`` by layer name, where it is not the default.
    """

    def __init__(self, model: ir.Model, modes: dict[str, str]) -> None:
        self._editor = GraphEditor(model)
        self._model = model
        self._modes = modes
        self._made: dict[tuple[ir.Value | None, Code, str, str], ir.Value] = {}

    def rewrite(self, layer: Layer) -> None:
        """Let a layer compute on float integers."""
        mode = self._modes.get(layer.name, "DEFAULT")
        for index, value in enumerate(layer.node.inputs):
            self._feed(layer.node, index, value, layer.name, mode)
        if layer.tail is not layer.node:
            for index, value in enumerate(layer.tail.inputs):
                if value is not layer.node.outputs[0]:
                    self._feed(layer.tail, index, value, layer.name, mode)
        for node in (layer.node, layer.tail):
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        dequant = layer.value.producer()
        assert dequant is not None
        self.dequantize(dequant, mode)

    def _feed(self, node: ir.Node, index: int, value: ir.Value | None, name: str, mode: str) -> None:
        if value is None:
            return
        quant = quantizer_of(value)
        array = _numbers(value)
        if quant is not None:
            node.replace_input_with(index, self._float_codes(node, quant, name, mode))
        elif array is not None:
            if array.dtype.kind in "iu":
                replace_constant(node, index, array, dtype=np.float32)
        elif value.dtype not in {ir.DataType.FLOAT, None}:
            cast = self._editor.node(
                "Cast", f"{name}.cast", [value], ir.DataType.FLOAT, attributes={"to": int(ir.DataType.FLOAT)}
            )
            self._editor.insert_before(node, index, [cast])

    def _float_codes(self, node: ir.Node, quant: ir.Node, name: str, mode: str) -> ir.Value:
        x = quant.inputs[0]
        assert x is not None
        domain = _FP16 if x.dtype == ir.DataType.FLOAT16 else _DOMAIN
        key = (x, code_of(quant), str(attribute(quant, "dst_type", "INT8")), mode)
        if key not in self._made:
            made = self._quantizer(quant, f"{name}.quant", domain, ir.DataType.FLOAT, mode)
            quant.graph.insert_after(quant, made)  # type: ignore[union-attr]  # it lies in the main graph
            self._made[key] = made.outputs[0]
        return self._made[key]

    def _quantizer(self, quant: ir.Node, name: str, domain: str, dtype: ir.DataType, mode: str = "DEFAULT") -> ir.Node:
        assert quant.inputs[0] is not None
        code = code_of(quant)
        kind = str(attribute(quant, "dst_type", "INT8"))
        attributes: dict[str, float | str] = {
            "scale": code.scale,
            "offset": float(code.offset),
            "dst_type": "INT8" if kind == "2" else kind,
        }
        if mode != "DEFAULT":
            attributes["fakequant_precision_mode"] = mode
        self._model.opset_imports.setdefault(domain, 1)
        return self._editor.node("AscendQuant", name, [quant.inputs[0]], dtype, attributes=attributes, domain=domain)

    def dequantize(self, dequant: ir.Node, mode: str = "DEFAULT") -> None:
        """Turn an AscendDequant node into the operator library's; integer accumulators are cast."""
        half = bool(int(str(attribute(dequant, "dtype", 0))))
        dequant.domain = _FP16 if half else _DOMAIN
        dequant.attributes.clear()
        if mode != "DEFAULT":
            dequant.attributes["fakequant_precision_mode"] = ir.AttrString("fakequant_precision_mode", mode)
        self._model.opset_imports.setdefault(dequant.domain, 1)
        value = dequant.inputs[0]
        if value is not None and value.dtype not in {ir.DataType.FLOAT, ir.DataType.FLOAT16, None}:
            self._feed(dequant, 0, value, str(dequant.name), mode)

    def serve_integers(self, quant: ir.Node) -> list[str]:
        """Give readers that are neither layers nor dequantizers (a graph output too) real int8 tensors.

        Returns:
            Their names.
        """
        result = quant.outputs[0]
        readers = [use for use in result.uses() if not _takes_codes(use.node)]
        names = [str(use.node.name) for use in readers]
        if result.is_graph_output():
            names.append(f"graph output {str(result.name)!r}")
        if not names:
            return []
        made = self._quantizer(quant, f"{quant.name}.int8", _INT8, ir.DataType.INT8)
        quant.graph.insert_after(quant, made)  # type: ignore[union-attr]  # as above
        for use in readers:
            use.node.replace_input_with(use.idx, made.outputs[0])
        if result.is_graph_output():
            graph, name = self._editor.graph, result.name
            for index, output in enumerate(graph.outputs):
                if output is result:
                    graph.outputs[index] = made.outputs[0]
            result.name, made.outputs[0].name = made.outputs[0].name, name
        return names


def _takes_codes(node: ir.Node) -> bool:
    """Whether a reader of a quantizer is a layer or the way back; refused layers read another quantizer by now."""
    if is_ascend(node, "AscendAntiQuant"):
        return True
    return node.domain == "" and node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul", "AveragePool"}


def _numbers(value: ir.Value) -> Array | None:
    """A constant, also one behind AMCT's int4 helpers: AscendWeightQuant of a weight, Cast of a bias."""
    array = constant(value)
    producer = value.producer()
    if array is not None or producer is None or not producer.inputs:
        return array
    inner = constant(producer.inputs[0])
    if inner is None or producer.op_type not in {"AscendWeightQuant", "Cast"}:
        return None
    offset = constant(producer.inputs[1]) if producer.op_type == "AscendWeightQuant" and len(producer.inputs) > 1 else 0
    return inner.astype(np.int32) - np.asarray(0 if offset is None else offset, np.int32)
