"""Networks in the shape of ResNet-50 and MobileNetV2: the layers of the real ones, weights from a fixed seed.

Time does not depend on what the weights are, so that no download is needed. They are He-initialized and the last layer
of every residual branch is scaled down, as trained networks with folded BatchNormalization behave: activations keep
their size from the first layer to the last, and 8 bits are enough for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir

__all__ = ["NETS", "mobilenet_v2", "resnet50"]

CLASSES = 1000
SIDE = 224


class _Builder:
    """Layers after one another, with weights drawn in that order."""

    def __init__(self, name: str, seed: int) -> None:
        import onnx_ir as ir

        self._ir = ir
        self._name = name
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._nodes: list[ir.Node] = []
        self._initializers: list[ir.Value] = []
        self.input = ir.Value(
            name="image", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 3, SIDE, SIDE])
        )

    def conv(
        self, x: ir.Value, name: str, channels: tuple[int, int], kernel: int, stride: int = 1, *, gain: float = 2.0
    ) -> ir.Value:
        """Conv with bias; of equal kernel borders. Channels (C, C) with C/group = 1 are :meth:`depthwise`."""
        return self._conv(x, name, (channels[1], channels[0], kernel, kernel), stride, 1, gain)

    def depthwise(self, x: ir.Value, name: str, channels: int, stride: int) -> ir.Value:
        """3×3, one filter a channel."""
        return self._conv(x, name, (channels, 1, 3, 3), stride, channels, 2.0)

    def _conv(self, x: ir.Value, name: str, shape: tuple[int, ...], stride: int, group: int, gain: float) -> ir.Value:
        border = shape[-1] // 2
        attributes = {
            "kernel_shape": list(shape[2:]),
            "strides": [stride, stride],
            "pads": [border] * 4,
            "group": group,
        }
        return self.op("Conv", [x, *self._weights(name, shape, gain)], name, **attributes)

    def classifier(self, x: ir.Value, channels: int) -> ir.Value:
        """Average over the map, then a fully connected layer."""
        pooled = self.op("Flatten", [self.op("GlobalAveragePool", [x], "pool")], "flatten")
        return self.op("Gemm", [pooled, *self._weights("classifier", (CLASSES, channels), 1.0)], "classifier", transB=1)

    def op(self, kind: str, inputs: list[ir.Value | None], name: str, **attributes: Any) -> ir.Value:
        node = self._ir.node(kind, inputs, attributes=attributes, name=name)
        output = node.outputs[0]
        output.name = f"{name}_out"
        self._nodes.append(node)
        return output

    def relu(self, x: ir.Value, name: str) -> ir.Value:
        return self.op("Relu", [x], name)

    def relu6(self, x: ir.Value, name: str) -> ir.Value:
        low, high = (self._constant(f"{name}_{side}", np.array(v, np.float32)) for side, v in (("low", 0), ("high", 6)))
        return self.op("Clip", [x, low, high], name)

    def _weights(self, name: str, shape: tuple[int, ...], gain: float) -> list[ir.Value]:
        deviation = np.float32(np.sqrt(gain / np.prod(shape[1:])))
        weights = self._random.standard_normal(shape, np.float32) * deviation
        bias = self._random.standard_normal(shape[0], np.float32) * np.float32(0.1)
        return [self._constant(f"{name}.weight", weights), self._constant(f"{name}.bias", bias)]

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = self._ir.Tensor(array, name=name)
        value = self._ir.Value(
            name=name, shape=tensor.shape, type=self._ir.TensorType(tensor.dtype), const_value=tensor
        )
        self._initializers.append(value)
        return value

    def finish(self, output: ir.Value) -> ir.Model:
        output.name = "logits"
        output.shape = self._ir.Shape(["batch", CLASSES])
        output.type = self._ir.TensorType(self._ir.DataType.FLOAT)
        graph = self._ir.Graph(
            [self.input],
            [output],
            nodes=self._nodes,
            initializers=self._initializers,
            opset_imports={"": 17},
            name=self._name,
        )
        return self._ir.Model(graph, ir_version=8, producer_name="ort-quant-plugin benchmarks")


def resnet50() -> ir.Model:
    """ResNet-50 as usually exported (stride in the 3×3 layers): 4.09 GMAC, 25.5 M parameters."""
    net = _Builder("resnet50-shaped", seed=50)
    x = net.relu(net.conv(net.input, "stem", (3, 64), 7, 2), "stem_relu")
    x = net.op("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _bottleneck(net, x, f"stage{stage}.{block}", channels, width, stride)
            channels = 4 * width
    return net.finish(net.classifier(x, channels))


def _bottleneck(net: _Builder, x: ir.Value, name: str, channels: int, width: int, stride: int) -> ir.Value:
    shortcut = x
    if channels != 4 * width:
        shortcut = net.conv(x, f"{name}.shortcut", (channels, 4 * width), 1, stride, gain=1.0)
    y = net.relu(net.conv(x, f"{name}.reduce", (channels, width), 1), f"{name}.reduce_relu")
    y = net.relu(net.conv(y, f"{name}.conv3x3", (width, width), 3, stride), f"{name}.conv3x3_relu")
    y = net.conv(y, f"{name}.expand", (width, 4 * width), 1, gain=0.25)
    return net.relu(net.op("Add", [y, shortcut], f"{name}.add"), f"{name}.relu")


def mobilenet_v2() -> ir.Model:
    """MobileNetV2, width 1.0: 0.30 GMAC, 3.5 M parameters."""
    net = _Builder("mobilenetv2-shaped", seed=2)
    x = net.relu6(net.conv(net.input, "stem", (3, 32), 3, 2), "stem_relu")
    channels = 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for stage, (expansion, width, blocks, first_stride) in enumerate(stages):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            x = _inverted_residual(net, x, f"stage{stage}.{block}", channels, width, expansion, stride)
            channels = width
    x = net.relu6(net.conv(x, "head", (channels, 1280), 1), "head_relu")
    return net.finish(net.classifier(x, 1280))


def _inverted_residual(
    net: _Builder, x: ir.Value, name: str, channels: int, width: int, expansion: int, stride: int
) -> ir.Value:
    y, hidden = x, channels * expansion
    if expansion != 1:
        y = net.relu6(net.conv(x, f"{name}.expand", (channels, hidden), 1), f"{name}.expand_relu")
    y = net.relu6(net.depthwise(y, f"{name}.depthwise", hidden, stride), f"{name}.depthwise_relu")
    residual = stride == 1 and channels == width
    y = net.conv(y, f"{name}.project", (hidden, width), 1, gain=0.25 if residual else 1.0)
    return net.op("Add", [y, x], f"{name}.add") if residual else y


NETS: dict[str, Callable[[], ir.Model]] = {"resnet50": resnet50, "mobilenetv2": mobilenet_v2}
