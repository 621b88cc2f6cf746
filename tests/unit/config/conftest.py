"""One model's worth of layers, covering every rule the configuration files depend on."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from ort_quant_plugin.layers import Layer, LayerTable


def _node(op_type: str, inputs: int) -> ir.Node:
    return ir.node(op_type, [ir.Value(name=f"x{i}") for i in range(inputs)])


def make_layers() -> list[Layer]:
    weight = ir.Value(name="w")
    conv = {"weight": weight, "channel_wise": True, "weight_bits": (6, 7, 8)}
    return [
        Layer("stem", "Conv", _node("Conv", 3), out_channels=4, in_channels=3, **conv),
        Layer("conv_a", "Conv", _node("Conv", 2), out_channels=8, in_channels=4, **conv),
        Layer("video", "Conv", _node("Conv", 2), weight=weight, channel_wise=True, asymmetric=False, out_channels=2),
        Layer("pool1", "MaxPool", _node("MaxPool", 1), kind="tensor"),
        Layer("sum", "Add", _node("Add", 2), kind="tensor"),
        Layer("avg", "AveragePool", _node("AveragePool", 1), balance=False),
        Layer("odd", "Gemm", _node("Gemm", 2), reason="its weight is not constant"),
        Layer("fc", "Gemm", _node("Gemm", 3), weight=weight, out_channels=10, in_channels=8),
    ]


@pytest.fixture
def table() -> LayerTable:
    return LayerTable(make_layers())
