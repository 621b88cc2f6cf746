"""The stock QDQ model: QuantizeLinear/DequantizeLinear pairs that ONNX Runtime's CPU turns into int8 kernels.

What that takes (measured on ONNX Runtime 1.17 to 1.31, x86):

* uint8 activations and int8 weights; signed activations fall back to float;
* one private int32 bias per layer, with scale ``s_x·s_w``;
* a Conv or AveragePool needs its *output* quantized too, and nothing else may read that output in float;
* a Relu or Clip in between must vanish: the quantizer has to saturate within its bounds.

So ``uint8 zero point = offset_d + 128``, the range of a tensor behind a Clip is narrowed to the Clip's
bounds, and every reader of a layer's output is fed from the DequantizeLinear. A layer whose int8 form
cannot come about stays float as a whole, and :meth:`QdqExporter.verify` reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.dataflow import (
    FUSED_OUTPUT_TYPES,
    activated_output,
    before_activations,
    behind_activations,
    next_quantized_layer,
)
from ort_quant_plugin.errors import NumericsError
from ort_quant_plugin.export.base import Exported, ExportOptions
from ort_quant_plugin.export.opset import raise_opset
from ort_quant_plugin.export.surgery import GraphEditor
from ort_quant_plugin.layers import Layer, find_layers
from ort_quant_plugin.model import const_array
from ort_quant_plugin.qparams import FLT_EPSILON, quantize_bias
from ort_quant_plugin.weights.base import channel_axis

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ort_quant_plugin.export.plan import LayerPlan, Plan
    from ort_quant_plugin.layers import LayerTable
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["QdqExporter", "UnsignedParams", "within_bounds"]

_PER_CHANNEL_OPSET = 13
_LEVELS = 255


@dataclass(frozen=True)
class UnsignedParams:
    """``x ≈ (q − zero_point)·scale`` with q in [0, 255]."""

    scale: np.float32
    zero_point: int

    @classmethod
    def of(cls, params: QuantParams) -> UnsignedParams:
        """The same mapping on unsigned codes."""
        return cls(np.float32(params.scale), params.offset + 128)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value with a code."""
        return -self.zero_point * float(self.scale), (_LEVELS - self.zero_point) * float(self.scale)


def within_bounds(params: UnsignedParams, low: float, high: float) -> UnsignedParams:
    """Parameters whose range lies within ``[low, high]``, so that the quantizer does the clipping (N9).

    Unchanged when the range lies within already. Values outside cannot occur behind the Clip, so
    narrowing loses nothing and makes the step smaller.
    """
    lower, upper = params.range
    if lower >= low and upper <= high:
        return params
    # Zero must keep a code: bounds on one side of it are widened, and then the Clip stays.
    lower, upper = max(lower, min(low, 0.0)), min(upper, max(high, 0.0))
    scale = np.float32((upper - lower) / _LEVELS)
    if scale < FLT_EPSILON:
        return params
    zero_point = min(max(round(-lower / float(scale)), 0), _LEVELS)
    if np.float32(_LEVELS - zero_point) * scale > np.float32(upper):
        scale = np.nextafter(scale, np.float32(0))  # the last code would lie an ulp above the bound
    return UnsignedParams(scale, zero_point)


class QdqExporter:
    """Writes ``<prefix>_qdq_model.onnx``."""

    name = "qdq"
    target = "qdq"
    summary = "QuantizeLinear/DequantizeLinear model: int8 on stock ONNX Runtime, no library"
    file_suffix = "qdq_model.onnx"

    def export(self, model: ir.Model, plan: Plan, options: ExportOptions) -> Exported:
        """See :class:`~ort_quant_plugin.export.base.Exporter`."""
        model = raise_opset(model, _PER_CHANNEL_OPSET)
        exported = Exported(model, "_qdq.external")
        _matmul_add_to_gemm(model, plan)
        table = find_layers(model)
        numbers: dict[str, LayerPlan] = {}
        for name, layer_plan in plan.layers.items():
            reason = _unsupported(table[name], layer_plan)
            if reason is None:
                numbers[name] = layer_plan
            else:
                exported.stayed_float[name] = reason
        tensors = _tensor_params(table, plan, numbers)
        narrowed = _absorb_activations(tensors)
        for name in [n for n in numbers if _bias_overflows(table[n], numbers[n], tensors)]:
            del numbers[name]
            exported.stayed_float[name] = "its bias does not fit into int32 with the scale its input has here"
        if narrowed:
            exported.notes.append(
                f"{narrowed} activation ranges were narrowed to the bounds of the Relu or Clip in front of them."
            )
        writer = _QdqWriter(GraphEditor(model), tensors)
        for name, layer_plan in numbers.items():
            writer.quantize_constants(table[name], layer_plan)
        writer.quantize_tensors({id(table[n].node) for n in numbers}, {n for n in numbers if n in plan.outputs}, table)
        return exported

    def verify(self, path: Path, exported: Exported, plan: Plan, options: ExportOptions) -> None:
        """Load the file with all optimizations and report every layer that did not become an int8 kernel."""
        from ort_quant_plugin.export.runtime_check import float_layers

        names = [name for name in plan.layers if name not in exported.stayed_float]
        for name, found in float_layers(path, names, options.op_libraries).items():
            exported.stayed_float[name] = f"ONNX Runtime computes it as {found} instead of an int8 kernel"


def _bias_overflows(layer: Layer, numbers: LayerPlan, tensors: Mapping[ir.Value, UnsignedParams]) -> bool:
    bias = const_array(layer.bias)
    if bias is None or layer.bias_add is not None:
        return False
    try:
        quantize_bias(bias, tensors[layer.activation].scale * numbers.scale_w, layer.name)
    except NumericsError:
        return True
    return False


def _matmul_add_to_gemm(model: ir.Model, plan: Plan) -> None:
    """MatMul with a bias on 2-D data becomes a Gemm of the same name.

    ONNX Runtime makes that Gemm itself, but before it looks for quantized operators, and in float.
    """
    table = find_layers(model)
    for name in plan.layers:
        layer = table[name]
        if layer.bias_add is None or layer.activation.shape is None or layer.activation.shape.rank() != 2:
            continue
        inputs = [*layer.node.inputs, layer.bias]
        gemm = ir.node("Gemm", inputs, name=name)
        old = layer.bias_add.outputs[0]
        gemm.outputs[0].name, gemm.outputs[0].type, gemm.outputs[0].shape = old.name, old.type, old.shape
        ir.convenience.replace_nodes_and_values(
            model.graph, layer.bias_add, [layer.node, layer.bias_add], [gemm], [old], gemm.outputs
        )


def _unsupported(layer: Layer, numbers: LayerPlan) -> str | None:
    if layer.dtype != "FLOAT32":
        return f"its type is {layer.dtype}; the QDQ model is for float32 models"
    if layer.op_type == "ConvTranspose":
        return "ONNX Runtime's CPU has no int8 ConvTranspose"
    if layer.weight is not None and layer.weight_index == 0:
        return "ONNX Runtime's CPU has no int8 MatMul with its constant on the left"
    if layer.op_type == "AveragePool":
        return _unsupported_pool(layer.node)
    return None


def _unsupported_pool(node: ir.Node) -> str | None:
    """What ONNX Runtime's QLinearAveragePool gets wrong (1.31.1)."""
    dilations = node.attributes.get("dilations")
    if dilations is not None and any(d != 1 for d in dilations.as_ints()):
        return "ONNX Runtime's int8 AveragePool has no dilations"
    flags = [node.attributes.get(name) for name in ("ceil_mode", "count_include_pad")]
    if all(flag is not None and flag.as_int() for flag in flags):
        return "ONNX Runtime's int8 AveragePool is wrong with both ceil_mode and count_include_pad"
    return None


def _tensor_params(table: LayerTable, plan: Plan, numbers: Mapping[str, LayerPlan]) -> dict[ir.Value, UnsignedParams]:
    """Parameters by tensor: inputs of int8 layers, and their outputs where those were observed or are read by a layer.

    Args:
        table: Layers of the model being written.
        plan: All calibrated layers; one that stays float here still tells the range of what it reads.
        numbers: The layers that become int8.
    """
    tensors: dict[ir.Value, UnsignedParams] = {}
    activations = {table[name].activation: table[name] for name in plan.layers}
    for name in numbers:
        tensors.setdefault(table[name].activation, UnsignedParams.of(numbers[name].activation))
    for name in numbers:
        value = activated_output(table[name])
        following = next_quantized_layer(value, activations)
        if following is not None:
            tensors.setdefault(value, UnsignedParams.of(plan.layers[following.name].activation))
        elif name in plan.outputs and table[name].op_type in FUSED_OUTPUT_TYPES:
            tensors.setdefault(value, UnsignedParams.of(plan.outputs[name]))
    return tensors


def _absorb_activations(tensors: dict[ir.Value, UnsignedParams]) -> int:
    """Narrow the range of tensors behind a layer's or an Add's Relu or Clip; returns how many changed."""
    changed = 0
    for value, params in list(tensors.items()):
        _, bounds = before_activations(value)
        tensors[value] = within_bounds(params, *bounds)
        changed += tensors[value] != params
    return changed


class _QdqWriter:
    def __init__(self, editor: GraphEditor, tensors: Mapping[ir.Value, UnsignedParams]) -> None:
        self.editor = editor
        self.tensors = tensors

    def quantize_constants(self, layer: Layer, numbers: LayerPlan) -> None:
        """Weight and bias become integers behind their own DequantizeLinear."""
        name = layer.name
        if numbers.integers is not None:
            axis = channel_axis(layer) if numbers.scale_w.size > 1 else None
            self._dequantize(layer.node, layer.weight_index, f"{name}.weight", numbers.integers, numbers.scale_w, axis)
        bias = const_array(layer.bias)
        if bias is not None and layer.bias_add is None:
            scale = self.tensors[layer.activation].scale * numbers.scale_w
            integers = quantize_bias(bias, scale, name)
            self._dequantize(layer.node, 2, f"{name}.bias", integers, scale, 0 if scale.size > 1 else None)

    def _dequantize(
        self,
        node: ir.Node,
        index: int,
        name: str,
        integers: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
        scale: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        axis: int | None,
    ) -> None:
        old = node.inputs[index]
        scale = scale if axis is not None else scale.reshape(())
        inputs = [
            self.editor.constant(f"{name}.int", integers),
            self.editor.constant(f"{name}.scale", scale),
            self.editor.constant(f"{name}.zero_point", np.zeros_like(scale, integers.dtype)),
        ]
        attributes = {} if axis is None else {"axis": axis}
        dequant = self.editor.node(
            "DequantizeLinear", f"{name}.dequant", inputs, ir.DataType.FLOAT, attributes=attributes
        )
        self.editor.insert_before(node, index, [dequant])
        if old is not None and old.is_initializer() and not old.uses() and not old.is_graph_output():
            self.editor.graph.initializers.pop(str(old.name), None)

    def quantize_tensors(self, quantized: set[int], observed: set[str], table: Mapping[str, Layer]) -> None:
        """Put a QuantizeLinear/DequantizeLinear pair behind every tensor."""
        fused = {activated_output(table[name]) for name in observed}
        fused |= {v for v in self.tensors if self._fuses(v, quantized)}
        # Who reads what is settled before the first edit: the edits change the answer.
        readers = {
            value: [
                (node, index)
                for node, index in value.uses()
                if value in fused or (id(node) in quantized and index == 0) or self._int8_operator(node)
            ]
            for value in self.tensors
        }
        for value, params in self.tensors.items():
            self._insert_pair(value, params, readers[value], as_output=value in fused and value.is_graph_output())

    def _fuses(self, value: ir.Value, quantized: set[int]) -> bool:
        """Whether what makes ``value`` becomes an int8 kernel, which takes that nobody reads it in float."""
        producer, _ = before_activations(value)
        return producer is not None and (id(producer) in quantized or self._int8_operator(producer))

    def _int8_operator(self, node: ir.Node) -> bool:
        """An Add or Concat all of whose inputs and whose output are quantized: ONNX Runtime has int8 kernels for it."""
        if node.op_type not in {"Add", "Concat"} or node.domain != "":
            return False
        return behind_activations(node.outputs[0]) in self.tensors and all(v in self.tensors for v in node.inputs)

    def _insert_pair(
        self, value: ir.Value, params: UnsignedParams, readers: list[tuple[ir.Node, int]], *, as_output: bool
    ) -> None:
        if not readers and not as_output:
            return
        name = str(value.name)
        scale = self.editor.constant(f"{name}.scale", np.asarray(params.scale, np.float32))
        zero_point = self.editor.constant(f"{name}.zero_point", np.asarray(params.zero_point, np.uint8))
        quant = self.editor.node("QuantizeLinear", f"{name}.quant", [value, scale, zero_point], ir.DataType.UINT8)
        dequant = self.editor.node(
            "DequantizeLinear", f"{name}.dequant", [quant.outputs[0], scale, zero_point], ir.DataType.FLOAT
        )
        dequant.outputs[0].shape = value.shape
        producer = value.producer()
        graph = self.editor.graph
        if producer is not None:
            graph.insert_after(producer, [quant, dequant])
        else:
            graph.insert_before(graph[0], [quant, dequant])
        for node, index in readers:
            node.replace_input_with(index, dequant.outputs[0])
        if as_output:
            dequant.outputs[0].name, value.name = name, self.editor.names.value(f"{name}_output0")
            for i, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[i] = dequant.outputs[0]
