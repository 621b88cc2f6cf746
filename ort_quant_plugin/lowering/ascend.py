"""Read a deploy graph: its quantizers, its layers with their numbers, and why a layer has no int8 operator here.

A layer is ``AscendQuant → L (→ Add of a MatMul's bias) → AscendDequant`` in the default domain, with int8 weight,
int32 bias and a packed uint64 scale. An Add of two ``AscendQuant → AscendAntiQuant`` pairs counts as a layer too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.passes.rewrite import attribute, constant, is_op
from ort_quant_plugin.qparams import unpack_deq_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ort_quant_plugin.lowering.shapes import Shapes

__all__ = [
    "LAYER_KINDS",
    "Code",
    "Layer",
    "anti_scale",
    "code_of",
    "is_ascend",
    "layer_behind",
    "quantizer_of",
    "read_layer",
]

Kind = Literal["QConv", "QConvTranspose", "QGemm", "QPool", "QAdd"]

_KINDS: dict[str, Kind] = {
    "Conv": "QConv",
    "ConvTranspose": "QConvTranspose",
    "Gemm": "QGemm",
    "MatMul": "QGemm",
    "AveragePool": "QPool",
}
LAYER_KINDS = frozenset({*_KINDS.values(), "QAdd"})
_DEFAULTS = {"sqrt_mode": (0, False), "relu_flag": (0, False), "round_mode": ("Round",)}
_INT8_NAMES = frozenset({"INT8", "2"})


@dataclass(frozen=True)
class Code:
    """How a tensor is quantized: ``q = clip(rint(x·scale) + offset, −128, 127)``.

    Attributes:
        scale: ``AscendQuant.scale`` = 1/scale_d, a float32 value.
        offset: −128…127.
    """

    scale: float
    offset: int


@dataclass
class Layer:
    """A quantized layer of a deploy graph.

    Attributes:
        name: Node name.
        node: Conv, ConvTranspose, Gemm, MatMul, AveragePool or Add.
        tail: The node whose result is dequantized: ``node``, or the Add of a MatMul's bias.
        quants: AscendQuant nodes in front of it (one, or two of an Add).
        value: Its real-valued result: the output of AscendDequant, or of the Add.
        kind: The operator that computes it in int8.
        deq: float32 (1,) or (M,) scales of the accumulator; empty for an Add.
        weight: int8 in ONNX layout; for Gemm and MatMul [K, N].
        bias: int32 (M,) or ``None``.
        channel_axis: Axis of the output's channels, negative from the end; ``None`` where nothing is per channel.
        reason: Why it cannot be lowered, a clause without a full stop.
    """

    name: str
    node: ir.Node
    tail: ir.Node
    quants: tuple[ir.Node, ...]
    value: ir.Value
    kind: Kind
    deq: NDArray[np.float32]
    weight: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None
    channel_axis: int | None = 1
    reason: str | None = None

    @property
    def inner(self) -> set[ir.Node]:
        """Nodes that the int8 operator replaces, quantizers aside."""
        producer = self.value.producer()
        assert producer is not None
        return {self.node, self.tail, producer}


def is_ascend(node: ir.Node | None, op_type: str) -> bool:
    """Whether ``node`` is this Ascend operator in the default domain."""
    return is_op(node, op_type)


def quantizer_of(value: ir.Value | None) -> ir.Node | None:
    """The AscendQuant node that makes ``value``."""
    producer = None if value is None else value.producer()
    return producer if is_ascend(producer, "AscendQuant") else None


def code_of(quant: ir.Node) -> Code:
    """Parameters of an AscendQuant node.

    Raises:
        UnsupportedError: An attribute has a value that AMCT never writes and nothing here computes.
    """
    refuse_modes(quant)
    scale = quant.attributes.get("scale")
    offset = quant.attributes.get("offset")
    if scale is None or offset is None:
        raise UnsupportedError(
            f"AscendQuant node {quant.name!r} lacks the attribute {'scale' if scale is None else 'offset'!r}.",
            hint="Export the deploy model again.",
            node=quant.name,
        )
    return Code(float(np.float32(scale.as_float())), round(float(offset.value)))


def refuse_modes(node: ir.Node) -> None:
    """Refuse the NPU's variants of the arithmetic, which AMCT never writes.

    Raises:
        UnsupportedError: ``sqrt_mode``, ``relu_flag`` or ``round_mode`` is set.
    """
    for name, allowed in _DEFAULTS.items():
        found = attribute(node, name, allowed[0])
        if found not in allowed:
            raise UnsupportedError(
                f"{node.op_type} node {node.name!r} has {name} = {found!r}; expected {allowed[0]!r}.",
                hint="Convert the float model with AMCT or this package, which do not write that attribute.",
                node=node.name,
                attribute=name,
                value=found,
            )


def anti_scale(node: ir.Node) -> float:
    """``scale`` of an AscendAntiQuant node, a float32 value.

    Its ``offset`` is not read: it is that of the quantizer in front, whatever sign convention wrote it.
    """
    refuse_modes(node)
    return float(np.float32(node.attributes["scale"].as_float()))


def layer_behind(dequant: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """Layer and tail of an AscendDequant node; ``None`` when something else feeds it."""
    tail = dequant.inputs[0].producer() if dequant.inputs[0] is not None else None
    if tail is None:
        return None
    if is_op(tail, *_KINDS):
        return tail, tail
    if is_op(tail, "Add"):
        for value in tail.inputs:
            producer = None if value is None else value.producer()
            if producer is not None and is_op(producer, "MatMul"):
                return producer, tail
    return None


def read_layer(dequant: ir.Node, node: ir.Node, tail: ir.Node, shapes: Shapes) -> Layer:
    """The layer in front of a dequantizer, with the reason if it must stay float.

    Raises:
        UnsupportedError: See :func:`refuse_modes`; or the dequantizer's scale is not a constant.
    """
    refuse_modes(dequant)
    packed = constant(dequant.inputs[1]) if len(dequant.inputs) > 1 else None
    if packed is None:
        raise UnsupportedError(
            f"AscendDequant node {dequant.name!r} has no constant scale.",
            hint="Export the deploy model again.",
            node=dequant.name,
        )
    deq, shift = unpack_deq_scale(packed)
    quants = tuple(q for v in node.inputs[:1] if (q := quantizer_of(v)) is not None)
    layer = Layer(
        str(node.name or node.outputs[0].name), node, tail, quants, dequant.outputs[0], _KINDS[node.op_type], deq
    )
    layer.reason = _numeric_reason(layer, shift) or _READERS[node.op_type](layer, shapes)
    return layer


def _numeric_reason(layer: Layer, shift: NDArray[np.int32]) -> str | None:
    dequant = layer.value.producer()
    assert dequant is not None
    if not layer.quants:
        on_the_left = layer.node.op_type == "MatMul" and quantizer_of(layer.node.inputs[1]) is not None
        return "its constant is on the left" if on_the_left else "its input is not quantized by AscendQuant"
    quant = layer.quants[0]
    x = quant.inputs[0]
    reason = None
    if int(str(attribute(dequant, "dtype", 0))) or (x is not None and x.dtype == ir.DataType.FLOAT16):
        reason = "it is a float16 layer"
    elif str(attribute(quant, "dst_type", "INT8")) not in _INT8_NAMES:
        reason = f"its input is quantized to {attribute(quant, 'dst_type')}"
    elif shift.any():
        reason = "its dequantization shifts (shift_bit)"
    elif len(layer.tail.outputs[0].uses()) != 1 or layer.tail.outputs[0].is_graph_output():
        reason = "its accumulator is read by other nodes too"
    return reason


def _weight(layer: Layer, index: int = 1) -> NDArray[np.generic] | str:
    value = layer.node.inputs[index] if len(layer.node.inputs) > index else None
    array = constant(value)
    if array is None:
        producer = None if value is None else value.producer()
        if producer is not None and producer.op_type == "AscendWeightQuant":
            return f"its weight is narrowed to {attribute(producer, 'dst_type', 'INT4')}"
        return "its weight is not a constant"
    return array if array.dtype == np.int8 else f"its weight has type {array.dtype}, not int8"


def _take_bias(layer: Layer, value: ir.Value | None, channels: int) -> str | None:
    """Attach the bias, spread to one value a channel; returns why not."""
    if value is None:
        return None
    array = constant(value)
    if array is None:
        return "its bias is not a constant"
    if array.dtype != np.int32:
        return f"its bias has type {array.dtype}, not int32"
    if array.size not in {1, channels} or (array.ndim and array.shape[-1] != array.size):
        return f"its bias has shape {list(array.shape)}; expected [{channels}]"
    layer.bias = np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,)))
    return None


def _deq_reason(layer: Layer, channels: int) -> str | None:
    if layer.deq.size in {1, channels}:
        return None
    return f"it has {layer.deq.size} dequantization scales for {channels} channels"


def _read_conv(layer: Layer, shapes: Shapes) -> str | None:
    weight = _weight(layer)
    if isinstance(weight, str):
        return weight
    if not 3 <= weight.ndim <= 5:
        return f"its weight has {weight.ndim} dimensions; expected 3 to 5"
    if _pads_negatively(layer.node, weight.shape[2:]):
        return "its automatic padding would be negative, on which versions of ONNX Runtime differ"
    layer.weight = weight.astype(np.int8, copy=False)
    group = int(str(attribute(layer.node, "group", 1)))
    channels = weight.shape[1] * group if layer.node.op_type == "ConvTranspose" else weight.shape[0]
    bias = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
    return _take_bias(layer, bias, channels) or _deq_reason(layer, channels)


def _pads_negatively(node: ir.Node, kernel: tuple[int, ...]) -> bool:
    """Whether ``auto_pad`` SAME meets a stride that is wider than the kernel."""
    if not str(attribute(node, "auto_pad", "NOTSET")).startswith("SAME"):
        return False
    strides = attribute(node, "strides", [1] * len(kernel))
    assert isinstance(strides, (list, tuple))
    return any(stride > size for stride, size in zip(strides, kernel, strict=True))


def _read_gemm(layer: Layer, shapes: Shapes) -> str | None:
    for name, expected in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        found = attribute(layer.node, name, expected)
        if found != expected:
            return f"{name} is {found}; expected {expected}"
    weight = _weight(layer)
    if isinstance(weight, str):
        return weight
    if attribute(layer.node, "transB", 0):
        weight = np.ascontiguousarray(weight.T)
    layer.weight = weight.astype(np.int8, copy=False)
    bias = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
    return _take_bias(layer, bias, weight.shape[1]) or _deq_reason(layer, weight.shape[1])


def _read_matmul(layer: Layer, shapes: Shapes) -> str | None:
    weight = _weight(layer)
    if isinstance(weight, str):
        return weight
    if weight.ndim != 2:
        return f"its weight has {weight.ndim} dimensions; expected 2"
    rank = shapes.rank(layer.node.inputs[0])
    if rank is None or rank < 2:
        return f"its input has {'an unknown number of' if rank is None else rank} dimensions; expected at least 2"
    if layer.deq.size > 1 and rank > 2:
        return "it has one dequantization scale a channel and an input of more than 2 dimensions"
    layer.weight, layer.channel_axis = weight.astype(np.int8, copy=False), -1
    bias = next((v for v in layer.tail.inputs if v is not None and v.producer() is not layer.node), None)
    if layer.tail is layer.node:
        bias = None
    return _take_bias(layer, bias, weight.shape[1]) or _deq_reason(layer, weight.shape[1])


def _read_pool(layer: Layer, shapes: Shapes) -> str | None:
    rank = shapes.rank(layer.node.inputs[0])
    if rank is None or not 3 <= rank <= 5:
        return f"its input has {'an unknown number of' if rank is None else rank} dimensions; expected 3 to 5"
    return None if layer.deq.size == 1 else "it has several dequantization scales"


_READERS = {
    "Conv": _read_conv,
    "ConvTranspose": _read_conv,
    "Gemm": _read_gemm,
    "MatMul": _read_matmul,
    "AveragePool": _read_pool,
}
