"""The deploy model for Ascend hardware, as ATC reads it.

Default domain only; int8 weights, int32 bias; per layer ``L.quant`` (AscendQuant), L, ``L.dequant``
(AscendDequant with a packed UINT64 scale). The zero-point correction of the bias is ATC's job, not ours.
onnx.checker rejects such a model (custom operators in the default domain) by design of the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.dataflow import clip_bounds, only_user
from ort_quant_plugin.export.base import Exported, ExportOptions
from ort_quant_plugin.export.surgery import ONE, GraphEditor, layer_nodes, quant_attributes, set_layer_constants
from ort_quant_plugin.qparams import integer_range, pack_deq_scale

if TYPE_CHECKING:
    from pathlib import Path

    from ort_quant_plugin.export.plan import LayerPlan, Plan
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["AscendExporter"]

_GE_FLOAT, _GE_FLOAT16 = 0, 1  # GE's data-type ids, the values of AscendDequant's dtype


class AscendExporter:
    """Writes ``<prefix>_deploy_model.onnx``."""

    name = "ascend"
    target = "ascend"
    summary = "int8 model for Ascend hardware (ATC input)"
    file_suffix = "deploy_model.onnx"

    def export(self, model: ir.Model, plan: Plan, options: ExportOptions) -> Exported:
        """See :class:`~ort_quant_plugin.export.base.Exporter`."""
        editor = GraphEditor(model)
        nodes = layer_nodes(model)
        quantized: dict[tuple[int, float, int], ir.Value] = {}
        for name, numbers in plan.layers.items():
            node = nodes[name]
            tail = nodes[str(numbers.layer.bias_add.name)] if numbers.layer.bias_add is not None else node
            _quantize(editor, node, numbers.layer.activation_index, name, numbers.activation, quantized)
            set_layer_constants(node, tail, numbers, weight_dtype=np.int8, bias_dtype=np.int32)
            # A mean of integers is no integer: int32 for the sums of all others.
            dtype = ir.DataType.FLOAT if node.op_type == "AveragePool" else ir.DataType.INT32
            for inner in {id(node): node, id(tail): tail}.values():
                inner.outputs[0].type = ir.TensorType(dtype)
            _dequantize(editor, tail.outputs[0], numbers)
        for (name, index), params in plan.tensors.items():
            chain = _quant_nodes(editor, nodes[name].inputs[index], f"{name}.{index}", params)
            # The hardware adds this offset before it scales: y = (x + offset)·scale.
            anti = {"scale": float(params.scale), "offset": float(-params.offset), "dtype": _GE_FLOAT}
            chain.append(
                editor.node(
                    "AscendAntiQuant",
                    f"{name}.{index}.anti_quant",
                    [chain[-1].outputs[0]],
                    ir.DataType.FLOAT,
                    attributes=anti,
                )
            )
            editor.insert_before(nodes[name], index, chain)
        _replace_saturated_relu6(model)
        _make_plain(model)
        return Exported(model, "_deploy.external", _foreign_domains(model))

    def verify(self, path: Path, exported: Exported, plan: Plan, options: ExportOptions) -> None:
        """Nothing can run it here."""


def _quant_nodes(editor: GraphEditor, x: ir.Value | None, name: str, params: QuantParams) -> list[ir.Node]:
    assert x is not None
    return [editor.node("AscendQuant", f"{name}.quant", [x], ir.DataType.INT8, attributes=quant_attributes(params))]


def _quantize(
    editor: GraphEditor,
    node: ir.Node,
    index: int,
    name: str,
    params: QuantParams,
    quantized: dict[tuple[int, float, int], ir.Value],
) -> None:
    x = node.inputs[index]
    key = (id(x), float(params.scale), params.offset)
    if key in quantized:
        node.replace_input_with(index, quantized[key])
        return
    chain = _quant_nodes(editor, x, name, params)
    quantized[key] = chain[-1].outputs[0]
    editor.insert_before(node, index, chain)


def _dequantize(editor: GraphEditor, value: ir.Value, numbers: LayerPlan) -> None:
    name, half = numbers.layer.name, numbers.layer.dtype == "FLOAT16"
    scale = editor.constant(f"{name}.dequant.param", pack_deq_scale(numbers.deq_scale))
    dtype = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
    attributes = {"dtype": _GE_FLOAT16 if half else _GE_FLOAT}
    node = editor.node("AscendDequant", f"{name}.dequant", [value, scale], dtype, attributes=attributes)
    editor.insert_after(value, [node], rename=f"{name}_output0")


def _replace_saturated_relu6(model: ir.Model) -> None:
    """Dequant → Clip(0, 6) → Quant: a Relu is enough when the quantizer saturates below 6 (AMCT)."""
    _, qmax = integer_range(8)
    for clip in [n for n in model.graph if n.op_type == "Clip" and clip_bounds(n) == (0.0, 6.0)]:
        source = clip.inputs[0].producer() if clip.inputs[0] is not None else None
        target = only_user(clip.outputs[0])
        if source is None or source.op_type != "AscendDequant" or target is None or target.op_type != "AscendQuant":
            continue
        scale = ONE / np.float32(target.attributes["scale"].as_float())
        if np.float32(qmax - target.attributes["offset"].as_float()) * scale >= 6.0:
            continue
        relu = ir.node("Relu", [clip.inputs[0]], name=clip.name)
        relu.outputs[0].name, relu.outputs[0].type = clip.outputs[0].name, clip.outputs[0].type
        relu.outputs[0].shape = clip.outputs[0].shape
        ir.convenience.replace_nodes_and_values(model.graph, clip, [clip], [relu], clip.outputs, relu.outputs)


def _make_plain(model: ir.Model) -> None:
    """ATC wants exactly one opset domain and knows none of our metadata."""
    model.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    used = {node.domain for node in model.graph.all_nodes()}
    for domain in [d for d in model.opset_imports if d not in {"", "ai.onnx"} and d not in used]:
        del model.opset_imports[domain]


def _foreign_domains(model: ir.Model) -> list[str]:
    foreign = sorted({f"{n.domain}::{n.op_type}" for n in model.graph.all_nodes() if n.domain not in {"", "ai.onnx"}})
    if not foreign:
        return []
    return [f"ATC accepts operators of the default domain only; the deploy model contains {', '.join(foreign)}."]
