"""Every constraint on what can be quantized, each with its reason."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.layers import find_layers

W = np.ones((4, 3, 3, 3), np.float32)


def one_layer(build, text, **arrays):
    model = build(f'<ir_version: 8, opset_import: ["": 13]>\n{text}', **arrays)
    for i, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{i}"
    return find_layers(model)


def conv(build, attributes="", shape="N,3,8,8", weight=W, bias=None):
    extra = ", b" if bias is not None else ""
    arrays = {"w": weight} | ({"b": bias} if bias is not None else {})
    text = f"g (float[{shape}] x) => (float[] y) {{ y = Conv{attributes}(x, w{extra}) }}"
    model = build(f'<ir_version: 8, opset_import: ["": 13]>\n{text}', **arrays)
    next(iter(model.graph)).name = "conv"
    return find_layers(model)["conv"]


def test_conv_2d(build):
    layer = conv(build, bias=np.zeros(4, np.float32))
    assert layer.quantizable
    assert (layer.out_channels, layer.in_channels, layer.channel_wise, layer.weight_bits) == (4, 3, True, (6, 7, 8))
    assert layer.asymmetric
    assert layer.bias is not None


def test_grouped_conv_counts_all_input_channels(build):
    assert conv(build, " <group=2>", "N,6,8,8").in_channels == 6


def test_conv_3d_is_symmetric_only(build):
    layer = conv(build, shape="N,3,8,8,8", weight=np.ones((4, 3, 3, 3, 3), np.float32))
    assert layer.quantizable
    assert not layer.asymmetric
    assert layer.weight_bits == (8,)


def test_conv_3d_with_depth_dilation(build):
    weight = np.ones((4, 3, 3, 3, 3), np.float32)
    assert conv(build, " <dilations=[1,2,2]>", "N,3,8,8,8", weight).quantizable
    assert "depth axis is 2" in conv(build, " <dilations=[2,1,1]>", "N,3,8,8,8", weight).reason


def test_conv_1d(build):
    assert "3 dimensions" in conv(build, shape="N,3,8", weight=np.ones((4, 3, 3), np.float32)).reason


def test_float64_weight(build):
    assert "float32 and float16" in conv(build, weight=W.astype(np.float64)).reason


def test_float16_weight(build):
    assert conv(build, weight=W.astype(np.float16)).dtype == "FLOAT16"


def test_bias_of_a_wrong_shape(build):
    assert "expected [4]" in conv(build, bias=np.zeros((1,), np.float32)).reason


def test_variable_weight(build):
    table = one_layer(build, "g (float[N,3,8,8] x, float[4,3,3,3] w) => (float[] y) { y = Conv(x, w) }")
    (layer,) = table.values()
    assert "'w' is not a constant" in layer.reason


def test_constant_activation(build):
    text = "g (float[4] z) => (float[] y) { t = Conv(c, w) y = Add(t, z) }"
    table = one_layer(build, text, w=W, c=np.ones((1, 3, 8, 8), np.float32))
    assert "activation input is a constant" in next(iter(table.values())).reason


@pytest.mark.parametrize(
    ("attributes", "shape", "reason"),
    [
        ("", (3, 4, 2, 2), None),
        (" <group=3>", (3, 4, 2, 2), None),
        (" <dilations=[2,2]>", (3, 4, 2, 2), "dilation is not 1"),
        ("", (3, 4, 2), "3 dimensions"),
    ],
)
def test_conv_transpose(build, attributes, shape, reason):
    text = f"g (float[] x) => (float[] y) {{ y = ConvTranspose{attributes}(x, w) }}"
    (layer,) = one_layer(build, text, w=np.ones(shape, np.float32)).values()
    assert (layer.reason is None) == (reason is None)
    assert reason is None or reason in layer.reason
    if reason is None:
        assert layer.out_channels == 4 * (3 if "group" in attributes else 1)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("", None),
        (" <transB=1>", None),
        (" <transA=1>", "transA is 1"),
        (" <alpha=0.5>", "alpha is 0.5"),
        (" <beta=2.0>", "beta is 2.0"),
    ],
)
def test_gemm(build, attributes, reason):
    text = f"g (float[N,5] x) => (float[] y) {{ y = Gemm{attributes}(x, w, b) }}"
    shape = (7, 5) if "transB" in attributes else (5, 7)
    (layer,) = one_layer(build, text, w=np.ones(shape, np.float32), b=np.zeros(7, np.float32)).values()
    assert (layer.reason is None) == (reason is None)
    assert reason is None or reason in layer.reason
    if reason is None:
        assert (layer.out_channels, layer.in_channels, layer.channel_wise) == (7, 5, False)


def test_matmul_with_its_bias_add(build):
    text = "g (float[N,5] x) => (float[] y) { t = MatMul(x, w) y = Add(b, t) }"
    table = one_layer(build, text, w=np.ones((5, 7), np.float32), b=np.zeros(7, np.float32))
    layer = next(iter(table.values()))
    assert layer.bias_add is not None
    assert layer.bias.name == "b"
    assert layer.output.name == "y"


@pytest.mark.parametrize("shape", [(1, 7), (1,)])
def test_matmul_add_of_another_shape_is_no_bias(build, shape):
    text = "g (float[N,5] x) => (float[] y) { t = MatMul(x, w) y = Add(t, b) }"
    table = one_layer(build, text, w=np.ones((5, 7), np.float32), b=np.zeros(shape, np.float32))
    assert next(iter(table.values())).bias_add is None


def test_matmul_read_by_others_has_no_bias(build):
    text = "g (float[N,5] x) => (float[] y, float[] z) { t = MatMul(x, w) y = Add(t, b) z = Relu(t) }"
    table = one_layer(build, text, w=np.ones((5, 7), np.float32), b=np.zeros(7, np.float32))
    assert next(iter(table.values())).bias_add is None


def test_matmul_with_its_constant_on_the_left(build):
    text = "g (float[5,N] x) => (float[] y) { y = MatMul(w, x) }"
    (layer,) = one_layer(build, text, w=np.ones((7, 5), np.float32)).values()
    assert layer.quantizable
    assert (layer.weight_index, layer.activation_index, layer.out_channels, layer.in_channels) == (0, 1, 7, 5)


def test_matmul_of_two_variables(build):
    (layer,) = one_layer(build, "g (float[N,5] x, float[5,7] w) => (float[] y) { y = MatMul(x, w) }").values()
    assert "both of its inputs are variable" in layer.reason


def test_matmul_with_a_3d_weight(build):
    text = "g (float[N,5] x) => (float[] y) { y = MatMul(x, w) }"
    (layer,) = one_layer(build, text, w=np.ones((2, 5, 7), np.float32)).values()
    assert "only a 2-D weight" in layer.reason


def test_average_pool(build):
    text = "g (float[N,3,8,8] x) => (float[] y) { y = AveragePool <kernel_shape=[2,2]>(x) }"
    (layer,) = one_layer(build, text).values()
    assert layer.quantizable
    assert layer.weight is None
    assert not layer.balance
    text = "g (float[N,3,8] x) => (float[] y) { y = AveragePool <kernel_shape=[2]>(x) }"
    (layer,) = one_layer(build, text).values()
    assert "4-D AveragePool" in layer.reason


def test_tensor_types(build):
    text = "g (float[N,3,8,8] x) => (float[] y) { t = MaxPool <kernel_shape=[2,2]>(x) y = Add(t, t) }"
    table = one_layer(build, text)
    assert [layer.op_type for layer in table.tensors] == ["MaxPool", "Add"]
    assert table.quantizable == []


def test_float16_pools_and_adds_stay_float(build):
    text = "g (float16[N,3,8,8] x) => (float16[] y) { y = AveragePool <kernel_shape=[2,2]>(x) }"
    (layer,) = one_layer(build, text).values()
    assert "only float32" in layer.reason


def test_a_layer_nobody_reads(build):
    text = "g (float[N,3,8,8] x) => (float[] y) { t = Conv(x, w) y = Relu(x) }"
    (layer,) = one_layer(build, text, w=W).values()
    assert layer.reason == "its output is not used"


def test_nodes_in_a_body_are_listed_as_float(build):
    text = """g (bool c, float[N,3,8,8] x) => (float[] y) {
        y = If (c) <
            then_branch = t () => (float[] a) { a = Conv(x, w) },
            else_branch = e () => (float[] b) { b = Relu(x) }
        >
    }"""
    model = build(f'<ir_version: 8, opset_import: ["": 13]>\n{text}')
    next(iter(model.graph)).name = "branch"
    (layer,) = find_layers(model).values()
    assert layer.kind == "other"
    assert "inside the body of If node 'branch'" in layer.reason
