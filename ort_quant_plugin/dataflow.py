"""What surrounds a layer in the graph: the activation fused behind it, and where its result is quantized next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.model import const_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from ort_quant_plugin.layers import Layer

__all__ = [
    "FUSED_OUTPUT_TYPES",
    "activated_output",
    "before_activations",
    "behind_activations",
    "clip_bounds",
    "next_quantized_layer",
    "only_user",
]

FUSED_OUTPUT_TYPES = ("Conv", "AveragePool")
"""Layers ONNX Runtime computes in int8 only when their output is quantized too; Gemm and MatMul may end in float."""

# Operators that move values without changing them, so a quantization step commutes with them.
_MOVES = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity"})


def only_user(value: ir.Value) -> ir.Node | None:
    """The single node that reads ``value``; ``None`` when several do or the value is a graph output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """Bounds of a Relu or of a Clip with constant bounds; ``None`` for any other node."""
    if node.domain != "":
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    bounds = [-np.inf, np.inf]
    for i, name in enumerate(("min", "max")):
        if name in node.attributes:  # opset 6 to 10
            bounds[i] = node.attributes[name].as_float()
        elif len(node.inputs) > i + 1 and node.inputs[i + 1] is not None:
            array = const_array(node.inputs[i + 1])
            if array is None or array.size != 1:
                return None
            bounds[i] = float(array.item())
    return bounds[0], bounds[1]


def activated_output(layer: Layer) -> ir.Value:
    """The layer's result behind its activation: past every Relu or Clip that is the only user so far."""
    return behind_activations(layer.output)


def behind_activations(value: ir.Value) -> ir.Value:
    """``value`` past every Relu or Clip that is the only user so far."""
    while (user := only_user(value)) is not None and clip_bounds(user) is not None:
        value = user.outputs[0]
    return value


def before_activations(value: ir.Value) -> tuple[ir.Node | None, tuple[float, float]]:
    """The node that makes ``value``, before every Relu or Clip nothing else reads into, and the bounds those set."""
    low, high = -np.inf, np.inf
    producer = value.producer()
    while producer is not None and (bounds := clip_bounds(producer)) is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
        source = producer.inputs[0]
        producer = source.producer() if source is not None and only_user(source) is producer else None
    return producer, (low, high)


def next_quantized_layer(value: ir.Value, activations: Mapping[ir.Value, Layer]) -> Layer | None:
    """The quantized layer that reads ``value``, directly or behind operators that only move values.

    Args:
        value: Where to start.
        activations: Quantized layers by the value they read.
    """
    while value not in activations:
        user = only_user(value)
        if user is None or user.op_type not in _MOVES or user.domain != "" or user.inputs[0] is not value:
            return None
        value = user.outputs[0]
    return activations[value]
