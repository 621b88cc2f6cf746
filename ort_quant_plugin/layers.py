"""Which node can be quantized, how, and if not why: one table, one rule per operator type.

The rules are those of AMCT for ONNX ("uniform quantization" and its layer constraints).
They judge a *prepared* model (:mod:`ort_quant_plugin.passes`): constants folded, names unique.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from ort_quant_plugin.model import const_array

__all__ = ["QUANTIZABLE_TYPES", "TENSOR_TYPES", "Layer", "LayerTable", "find_layers"]

DataTypeName = Literal["FLOAT32", "FLOAT16"]
_DTYPE_NAMES: dict[ir.DataType, DataTypeName] = {ir.DataType.FLOAT: "FLOAT32", ir.DataType.FLOAT16: "FLOAT16"}
_CONV2D_WEIGHT_BITS = (6, 7, 8)


@dataclass(frozen=True)
class Layer:
    """One candidate node and the verdict on it.

    Attributes:
        name: ONNX node name; the key of the layer in configuration and record files.
        op_type: ONNX operator.
        node: The node itself.
        kind: ``layer`` for a quantizable type, ``tensor`` where only one input tensor can be
            quantized (MaxPool, Add), ``other`` for a candidate inside a subgraph.
        reason: Why it cannot be quantized; ``None`` when it can.
        weight: Constant weight; ``None`` for AveragePool.
        weight_index: Input index of the weight (0 for a MatMul with its constant on the left).
        bias: Constant bias of length ``out_channels``, an input of ``node`` or of ``bias_add``.
        bias_add: The Add behind a MatMul whose 1-D constant is the layer's bias.
        out_channels: Length of a per-channel ``scale_w``.
        in_channels: Length of ``tensor_balance_factor``.
        channel_wise: Whether per-channel weights are possible (then they are the default).
        asymmetric: Whether asymmetric activations are possible.
        weight_bits: Legal weight widths.
        balance: Whether DMQ balancing is possible.
        dtype: Element type the operator has in the user's model.
    """

    name: str
    op_type: str
    node: ir.Node
    kind: Literal["layer", "tensor", "other"] = "layer"
    reason: str | None = None
    weight: ir.Value | None = None
    weight_index: int = 1
    bias: ir.Value | None = None
    bias_add: ir.Node | None = None
    out_channels: int = 1
    in_channels: int = 1
    channel_wise: bool = False
    asymmetric: bool = True
    weight_bits: tuple[int, ...] = (8,)
    balance: bool = True
    dtype: DataTypeName = "FLOAT32"

    @property
    def quantizable(self) -> bool:
        """Whether the layer can be quantized as a layer."""
        return self.kind == "layer" and self.reason is None

    @property
    def activation_index(self) -> int:
        """Input index of the activation."""
        return 1 if self.weight is not None and self.weight_index == 0 else 0

    @property
    def activation(self) -> ir.Value:
        """The value that is quantized in front of the layer."""
        value = self.node.inputs[self.activation_index]
        assert value is not None
        return value

    @property
    def bias_name(self) -> str | None:
        """Name of the bias value."""
        return None if self.bias is None else self.bias.name

    @property
    def output(self) -> ir.Value:
        """The layer's result: behind the bias Add where there is one."""
        return (self.bias_add or self.node).outputs[0]


class LayerTable(Mapping[str, Layer]):
    """Layers by name, in graph order."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = {layer.name: layer for layer in layers}

    def __getitem__(self, name: str) -> Layer:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def quantizable(self) -> list[Layer]:
        """Layers that can be quantized."""
        return [layer for layer in self._layers.values() if layer.quantizable]

    @property
    def tensors(self) -> list[Layer]:
        """Nodes of which one input tensor can be quantized."""
        return [layer for layer in self._layers.values() if layer.kind == "tensor" and layer.reason is None]


def find_layers(model: ir.Model) -> LayerTable:
    """Judge every candidate node of a prepared model.

    Nodes inside If, Loop and Scan bodies are listed as ``other``: they stay float.
    """
    layers = [_judge(node) for node in model.graph if node.domain == "" and node.op_type in _RULES]
    biases = {layer.bias_add: layer.name for layer in layers if layer.bias_add is not None}
    layers = [
        replace(layer, reason=f"it is the bias of {biases[layer.node]!r}") if layer.node in biases else layer
        for layer in layers
    ]
    for owner in model.graph:
        where = f"{owner.op_type} node {owner.name!r}"
        for body in _bodies(owner):
            layers += [
                Layer(str(node.name), node.op_type, node, "other", f"inside the body of {where}")
                for node in body.all_nodes()
                if node.domain == "" and node.op_type in QUANTIZABLE_TYPES
            ]
    return LayerTable(layers)


def _bodies(node: ir.Node) -> list[ir.Graph]:
    """The subgraphs of an If, Loop or Scan."""
    bodies: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            bodies.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies += attribute.as_graphs()
    return bodies


def _judge(node: ir.Node) -> Layer:
    layer = Layer(str(node.name), node.op_type, node)
    layer = _RULES[node.op_type](layer)
    if layer.reason is None:
        layer = replace(layer, reason=_common_reason(layer))
    return layer


def _common_reason(layer: Layer) -> str | None:
    if not layer.node.outputs or not (layer.output.uses() or layer.output.is_graph_output()):
        return "its output is not used"
    if layer.activation.is_initializer() or const_array(layer.activation) is not None:
        return "its activation input is a constant"
    return None


def _refuse(layer: Layer, reason: str) -> Layer:
    return replace(layer, reason=reason)


def _with_weight(layer: Layer, index: int = 1) -> Layer:
    """Attach the constant weight, or the reason why there is none."""
    value = layer.node.inputs[index] if len(layer.node.inputs) > index else None
    if value is None or ir.convenience.get_const_tensor(value) is None:
        return _refuse(layer, f"its weight {value.name if value else ''!r} is not a constant")
    if value.dtype not in _DTYPE_NAMES:
        return _refuse(layer, f"its weight has type {value.dtype}; only float32 and float16 are quantized")
    return replace(layer, weight=value, weight_index=index, dtype=_DTYPE_NAMES[value.dtype])


def _with_bias(layer: Layer, index: int) -> Layer:
    if layer.reason is not None or len(layer.node.inputs) <= index or layer.node.inputs[index] is None:
        return layer
    value = layer.node.inputs[index]
    array = const_array(value)
    if array is None:
        return _refuse(layer, f"its bias {value.name if value else ''!r} is not a constant")
    if array.ndim != 1 or array.size != layer.out_channels:
        return _refuse(layer, f"its bias has shape {list(array.shape)}; expected [{layer.out_channels}]")
    return replace(layer, bias=value)


def _weight_shape(layer: Layer) -> tuple[int, ...]:
    assert layer.weight is not None
    tensor = ir.convenience.get_const_tensor(layer.weight)
    assert tensor is not None
    return tuple(tensor.shape.numpy())


def _int_attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _ints_attribute(node: ir.Node, name: str) -> list[int]:
    attribute = node.attributes.get(name)
    return [] if attribute is None else list(attribute.as_ints())


def _conv(layer: Layer) -> Layer:
    layer = _with_weight(layer)
    if layer.reason is not None:
        return layer
    shape = _weight_shape(layer)
    if len(shape) not in {4, 5}:
        return _refuse(layer, f"its input has {len(shape)} dimensions; only 4-D and 5-D Conv is quantized")
    group = _int_attribute(layer.node, "group", 1)
    layer = replace(layer, out_channels=shape[0], in_channels=shape[1] * group, channel_wise=True)
    if len(shape) == 4:
        return _with_bias(replace(layer, weight_bits=_CONV2D_WEIGHT_BITS), 2)
    dilations = _ints_attribute(layer.node, "dilations")
    if dilations and dilations[0] != 1:
        return _refuse(layer, f"its dilation along the depth axis is {dilations[0]}; 5-D Conv needs 1")
    return _with_bias(replace(layer, asymmetric=False), 2)


def _conv_transpose(layer: Layer) -> Layer:
    layer = _with_weight(layer)
    if layer.reason is not None:
        return layer
    shape = _weight_shape(layer)
    if len(shape) != 4:
        return _refuse(layer, f"its input has {len(shape)} dimensions; only 4-D ConvTranspose is quantized")
    if any(d != 1 for d in _ints_attribute(layer.node, "dilations")):
        return _refuse(layer, "its dilation is not 1")
    group = _int_attribute(layer.node, "group", 1)
    layer = replace(layer, out_channels=shape[1] * group, in_channels=shape[0], channel_wise=True)
    return _with_bias(layer, 2)


def _gemm(layer: Layer) -> Layer:
    node = layer.node
    if _int_attribute(node, "transA", 0):
        return _refuse(layer, "transA is 1; expected 0")
    for name in ("alpha", "beta"):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.as_float() != 1.0:
            return _refuse(layer, f"{name} is {attribute.as_float()}; expected 1.0")
    layer = _with_weight(layer)
    if layer.reason is not None:
        return layer
    shape = _weight_shape(layer)
    trans_b = _int_attribute(node, "transB", 0)
    layer = replace(
        layer, out_channels=shape[0] if trans_b else shape[1], in_channels=shape[1] if trans_b else shape[0]
    )
    return _with_bias(layer, 2)


def _matmul(layer: Layer) -> Layer:
    constant = [
        i for i, v in enumerate(layer.node.inputs) if v is not None and ir.convenience.get_const_tensor(v) is not None
    ]
    if not constant:
        return _refuse(layer, "both of its inputs are variable; one must be a constant weight")
    layer = _with_weight(layer, constant[-1])
    if layer.reason is not None:
        return layer
    shape = _weight_shape(layer)
    if len(shape) != 2:
        return _refuse(layer, f"its weight has {len(shape)} dimensions; only a 2-D weight is quantized")
    if layer.weight_index == 0:
        return replace(layer, in_channels=shape[1], out_channels=shape[0])
    layer = replace(layer, in_channels=shape[0], out_channels=shape[1])
    return _with_bias_add(layer)


def _with_bias_add(layer: Layer) -> Layer:
    """The Add behind a MatMul is its bias when nothing else reads the MatMul and it adds a (Cout,) constant (AMCT)."""
    out = layer.node.outputs[0]
    users = list(out.uses())
    if out.is_graph_output() or len(users) != 1 or users[0].node.op_type != "Add" or users[0].node.domain != "":
        return layer
    add = users[0].node
    if add.graph is not layer.node.graph:
        return layer
    other = add.inputs[1 - users[0].idx]
    array = const_array(other)
    if array is None or array.shape != (layer.out_channels,):
        return layer
    return replace(layer, bias=other, bias_add=add)


def _average_pool(layer: Layer) -> Layer:
    kernel = _ints_attribute(layer.node, "kernel_shape")
    if len(kernel) != 2:
        return _refuse(layer, f"its kernel has {len(kernel)} dimensions; only 4-D AveragePool is quantized")
    return replace(_float32_only(layer), balance=False)


def _float32_only(layer: Layer) -> Layer:
    """AMCT excludes AveragePool, MaxPool and Add of float16 models."""
    dtype = layer.node.inputs[0].dtype if layer.node.inputs and layer.node.inputs[0] is not None else None
    if dtype not in {None, ir.DataType.FLOAT}:
        return _refuse(layer, f"its input has type {dtype}; only float32 is quantized here")
    return layer


def _tensor_only(layer: Layer) -> Layer:
    return replace(_float32_only(layer), kind="tensor", balance=False)


_RULES: Mapping[str, Callable[[Layer], Layer]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "AveragePool": _average_pool,
    "MaxPool": _tensor_only,
    "Add": _tensor_only,
}
TENSOR_TYPES = ("MaxPool", "Add")
QUANTIZABLE_TYPES = tuple(op for op in _RULES if op not in TENSOR_TYPES)
