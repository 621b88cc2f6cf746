"""Write the trained network as ONNX with onnx_ir: readable node names, BatchNormalization left as it was trained.

``torch.onnx`` folds BatchNormalization and invents names; the demo wants to show both the folding and the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["build_model", "write_model"]

OPSET = 13
IR_VERSION = 8  # of ONNX 1.10: every ONNX Runtime that still matters reads it


class _Builder:
    """Appends named nodes to a graph; ``weights`` is the state dict as numpy arrays."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """Add an initializer."""
        value = ir.val(name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
        self.initializers.append(value)
        return value

    def node(self, name: str, op_type: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        """Add a node called ``name`` whose one output is ``<name>_out``."""
        node = ir.node(op_type, inputs, attributes=attributes or None, name=name)
        node.outputs[0].name = f"{name}_out"
        self.nodes.append(node)
        return node.outputs[0]

    def conv(self, name: str, x: ir.Value, *, kernel: int, stride: int = 1, group: int = 1) -> ir.Value:
        """Add ``<name>_conv``, padded so that stride 1 keeps the size, with a bias if the trained one has it."""
        key = f"layers.{name}_conv"
        inputs = [x, self.constant(f"{name}_weight", self.weights[f"{key}.weight"])]
        if f"{key}.bias" in self.weights:
            inputs.append(self.constant(f"{name}_bias", self.weights[f"{key}.bias"]))
        pads = [kernel // 2] * 4
        return self.node(
            f"{name}_conv", "Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=group
        )

    def batch_norm(self, name: str, x: ir.Value) -> ir.Value:
        """Add ``<name>_bn`` in inference form."""
        state = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
        statistics = [
            self.constant(f"{name}_bn_{onnx}", self.weights[f"layers.{name}_bn.{torch}"])
            for onnx, torch in state.items()
        ]
        return self.node(f"{name}_bn", "BatchNormalization", [x, *statistics], epsilon=1e-5)

    def conv_bn(self, name: str, x: ir.Value, *, kernel: int, stride: int = 1, group: int = 1) -> ir.Value:
        """Add a convolution and its normalization."""
        return self.batch_norm(name, self.conv(name, x, kernel=kernel, stride=stride, group=group))


def build_model(weights: Mapping[str, np.ndarray]) -> ir.Model:
    """Build the ONNX twin of ``network.DigitsNet``.

    Args:
        weights: The state dict of the trained network, float32.

    Returns:
        A model ``image (batch, 1, 8, 8) float32 → logits (batch, 10) float32`` of opset 13.
    """
    b = _Builder(weights)
    image = ir.val("image", dtype=ir.DataType.FLOAT, shape=ir.Shape(["batch", 1, 8, 8]))
    x = b.node("stem_relu", "Relu", [b.conv_bn("stem", image, kernel=3)])
    zero, six = b.constant("relu6_min", np.float32(0)), b.constant("relu6_max", np.float32(6))
    x = b.node("depthwise_relu6", "Clip", [b.conv_bn("depthwise", x, kernel=3, group=16), zero, six])
    x = b.node("pointwise_relu", "Relu", [b.conv_bn("pointwise", x, kernel=1)])
    x = b.node("down_relu", "Relu", [b.conv_bn("down", x, kernel=3, stride=2)])
    y = b.node("residual1_relu", "Relu", [b.conv_bn("residual1", x, kernel=3)])
    x = b.node("residual_add", "Add", [x, b.conv_bn("residual2", y, kernel=3)])
    x = b.node("residual_relu", "Relu", [x])
    x = b.node("max_pool", "MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("head_relu", "Relu", [b.conv("head", x, kernel=1)])
    x = b.node("average_pool", "AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("flatten", "Flatten", [x], axis=1)
    classifier = [
        b.constant("classifier_weight", weights["layers.classifier.weight"]),
        b.constant("classifier_bias", weights["layers.classifier.bias"]),
    ]
    logits = b.node("classifier", "Gemm", [x, *classifier], transB=1)
    logits.name, logits.dtype, logits.shape = "logits", ir.DataType.FLOAT, ir.Shape(["batch", 10])
    graph = ir.Graph(
        [image], [logits], nodes=b.nodes, initializers=b.initializers, opset_imports={"": OPSET}, name="digits_cnn"
    )
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="ort-quant-plugin examples/train_digits")


def write_model(weights: Mapping[str, np.ndarray], path: Path) -> None:
    """Write :func:`build_model` to ``path``."""
    ir.save(build_model(weights), path)
