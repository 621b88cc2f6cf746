"""Shapes of lowered graphs: where codes flow, what stays float, which operators are left."""

from __future__ import annotations

import numpy as np
import pytest

F = np.float32
HEAD = '<ir_version: 8, opset_import: ["": 13]>\n'
QX = 'qx = AscendQuant <scale=32.5, offset=-5.0, dst_type="INT8">(x)\n'
FIRST = QX + "[one] c = Conv <pads=[1,1,1,1]>(qx, w1, b1) \n v = AscendDequant <dtype=0>(c, s1) \n r = Relu(v)\n"
ON_X = "float[N,3,8,6] x"
ON_FREE = "float[N,3,H,W] x"


def second(value: str, scale: str = "9.25", offset: str = "-128.0", number: int = 2, name: str = "two") -> str:
    """A 1×1 Conv with a quantizer of its own; its real result is u<number>."""
    return (
        f'q{number} = AscendQuant <scale={scale}, offset={offset}, dst_type="INT8">({value})\n'
        f"[{name}] d{number} = Conv(q{number}, w{number}, b{number})\n"
        f"u{number} = AscendDequant(d{number}, s{number})\n"
    )


@pytest.fixture
def convs(weights):
    """Arrays of layer one (3→8, 3×3) and layer two (1×1 on so many channels)."""
    return lambda channels=8: weights(1, 8, 3, 3, 3) | weights(2, 5, channels, 1, 1)


def graph(inputs: str, body: str, outputs: str = "float[N,M,P,Q] y") -> str:
    return f"{HEAD}net ({inputs}) => ({outputs}) {{\n{body}\n}}"


def test_two_layers_meet_in_codes(lowered, convs, image):
    made = lowered(graph(ON_FREE, FIRST + second("r") + "y = Identity(u2)"), {"x": image(2, 3, 8, 6)}, **convs())
    assert made.operators == {"QuantizeLayout": 1, "QConv": 2}
    one, two = made.node("one"), made.node("two")
    assert two.inputs[0] is one.outputs[0]
    assert one.attributes["y_scale"].as_float() == 9.25
    assert one.attributes["y_offset"].as_int() == two.attributes["x_offset"].as_int() == -128
    assert two.attributes["float_layout"].as_string() == "channels_first"
    assert [o.name for o in two.outputs] == ["", "y"]


MOVES = {
    "MaxPool": ("m = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r)", {}, {"QPool": 1}, 8),
    "Concat": ("m = Concat <axis=1>(r, r)", {}, {"Concat": 1}, 16),
    "Concat on rows": ("m = Concat <axis=-2>(r, r)", {}, {"Concat": 1}, 8),
    "Pad": ("m = Pad(r, pads)", {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1])}, {"Pad": 1}, 8),
    "Pad with a number": (
        "m = Pad(r, pads, k)",
        {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "k": F(1.3)},
        {"Pad": 1},
        8,
    ),
    "reflected Pad": ('m = Pad <mode="reflect">(r, pads)', {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1])}, {"Pad": 1}, 8),
    "Slice": (
        "m = Slice(r, start, end, axes)",
        {"start": np.array([1, 2]), "end": np.array([7, 99]), "axes": np.array([1, -1])},
        {"Slice": 1},
        6,
    ),
    "Split": ("m, rest = Split <axis=1>(r, sizes)", {"sizes": np.array([3, 5])}, {"Split": 1}, 3),
    "Resize": (
        'm = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="ceil">(r, roi, scale)',
        {"roi": np.zeros(0, F), "scale": np.array([1, 1, 2, 3], F)},
        {"Resize": 1},
        8,
    ),
    "Transpose": ("m = Transpose <perm=[0,1,3,2]>(r)", {}, {"Transpose": 1}, 8),
    "Transpose there and back": (
        "t = Transpose <perm=[0,2,3,1]>(r) \n s = Slice(t, start, end, axes) \n m = Transpose <perm=[0,3,1,2]>(s)",
        {"start": np.array([1]), "end": np.array([9]), "axes": np.array([2])},
        {"Slice": 1},
        8,
    ),
    "Identity and Dropout": ("i = Identity(r) \n m = Dropout(i)", {}, {}, 8),
    "Reshape": ("m = Reshape(r, shape)", {"shape": np.array([0, 4, -1, 6])}, {"Reshape": 1, "Transpose": 2}, 4),
    "Squeeze and Unsqueeze": (
        "s = Slice(r, start, end, axes) \n q = Squeeze(s, axes) \n m = Unsqueeze(q, axes)",
        {"start": np.array([1]), "end": np.array([2]), "axes": np.array([2])},
        {"Slice": 1, "Squeeze": 1, "Unsqueeze": 1},
        8,
    ),
    "Reshape to fewer axes": (
        "q = Reshape(r, flat) \n m = Reshape(q, full)",
        {"flat": np.array([0, 8, -1]), "full": np.array([0, 8, 8, 6])},
        {"Reshape": 2, "Transpose": 2},
        8,
    ),
}


@pytest.mark.parametrize("shape", [ON_X, ON_FREE], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", MOVES)
def test_codes_are_carried_through(lowered, convs, image, name, shape):
    lines, arrays, operators, channels = MOVES[name]
    text = graph(shape, FIRST + lines + "\n" + second("m") + "y = Identity(u2)")
    made = lowered(text, {"x": image(2, 3, 8, 6)}, **convs(channels), **arrays)
    assert made.operators == {"QuantizeLayout": 1, "QConv": 2} | operators


OLD_MOVES = {
    "Split": ("m, rest = Split <axis=1, split=[3,5]>(r)", {"Split": 1}, 3),
    "Squeeze": (
        "p = MaxPool <kernel_shape=[8,1]>(r) \n q = Squeeze <axes=[2]>(p) \n m = Unsqueeze <axes=[2]>(q)",
        {"QPool": 1, "Squeeze": 1, "Unsqueeze": 1},
        8,
    ),
    "Pad": ("m = Pad(r, pads)", {"Pad": 1}, 8),
    "Resize": (
        'm = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(r, roi, scale)',
        {"Resize": 1},
        8,
    ),
}


@pytest.mark.parametrize("name", OLD_MOVES)
def test_moves_as_opset_11_writes_them(lowered, convs, image, name):
    lines, operators, channels = OLD_MOVES[name]
    text = graph(ON_X, FIRST + lines + "\n" + second("m") + "y = Identity(u2)").replace('"": 13', '"": 11')
    arrays = {"pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]), "roi": np.zeros(0, F), "scale": np.array([1, 1, 2, 3], F)}
    arrays = {key: array for key, array in arrays.items() if key in lines}
    made = lowered(text, {"x": image(2, 3, 8, 6)}, **convs(channels), **arrays)
    assert made.operators == {"QuantizeLayout": 1, "QConv": 2} | operators


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(lowered, weights, image, auto_pad):
    """Explicit pads beside auto_pad mean nothing."""
    body = QX + f'[one] c = Conv <auto_pad="{auto_pad}", strides=[2,2]>(qx, w1, b1) \n y = AscendDequant(c, s1)'
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 7)}, **weights(1, 8, 3, 3, 3))
    assert made.operators == {"QuantizeLayout": 1, "QConv": 1}


def test_concat_of_two_layers_joins_their_codes(lowered, weights, image):
    body = (
        FIRST
        + second("r")
        + "k = Concat <axis=1>(u2, r)\n"
        + second("k", number=3, name="three", scale="7.5")
        + "y = Relu(u3)"
    )
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 5, 8, 1, 1) | weights(3, 4, 13, 1, 1)
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, **arrays)
    assert made.operators == {"QuantizeLayout": 1, "QConv": 3, "Concat": 1}
    assert [o.name != "" for o in made.node("one").outputs] == [True, False, True]  # two quantizations of one result


def test_what_is_read_in_float_too_is_not_moved_twice(lowered, convs, image):
    """The Concat is a graph output, so it exists in float, and its codes are made from that."""
    body = FIRST + "k = Concat <axis=1>(r, r)\n" + second("k") + "y = Identity(u2)"
    made = lowered(graph(ON_X, body, "float[N,M,P,Q] y, float[N,16,8,6] k"), {"x": image(2, 3, 8, 6)}, **convs(16))
    assert made.operators == {"QuantizeLayout": 2, "QConv": 2, "Concat": 1, "Transpose": 1}


def test_three_quantizations_of_one_result(lowered, weights, image):
    body = FIRST + "".join(second("r", scale=f"{9 + i}.5", number=i, name=f"l{i}") for i in (2, 3, 4))
    arrays = weights(1, 8, 3, 3, 3) | {k: a for i in (2, 3, 4) for k, a in weights(i, 5, 8, 1, 1).items()}
    made = lowered(graph(ON_FREE, body + "a = Add(u2, u3) \n y = Add(a, u4)"), {"x": image(2, 3, 8, 6)}, **arrays)
    assert made.operators == {"QuantizeLayout": 2, "QConv": 4}
    assert made.node("one").attributes["float_layout"].as_string() == "channels_last"


def test_equal_quantizers_are_one_output(lowered, weights, image):
    body = FIRST + second("r") + second("r", number=3, name="three") + "y = Mul(u2, u3)"
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 5, 8, 1, 1) | weights(3, 5, 8, 1, 1)
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, **arrays)
    assert len(made.node("one").outputs) == 1


def test_float_between_layers_runs_channels_last(lowered, convs, image):
    """SiLU is no exact step; its operators follow the layout instead of forcing two transpositions."""
    body = FIRST + "g = Sigmoid(r) \n m = Mul(r, g) \n a = Add(m, k)\n" + second("a") + "y = Identity(u2)"
    k = np.random.default_rng(2).normal(size=(8, 1, 1)).astype(F)
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, k=k, **convs())
    assert made.operators == {"QuantizeLayout": 2, "QConv": 2, "Sigmoid": 1, "Mul": 1, "Add": 1}


def test_float_that_nobody_quantizes_keeps_its_layout(lowered, convs, image):
    made = lowered(graph(ON_FREE, FIRST + "y = Sigmoid(r)"), {"x": image(2, 3, 8, 6)}, **convs())
    assert made.operators == {"QuantizeLayout": 1, "QConv": 1, "Sigmoid": 1}
    assert made.node("one").outputs[1].name == "r"


def test_squeeze_and_excite(lowered, weights, image):
    """Both layouts of one result: GlobalAveragePool reads the first, the product the last."""
    body = FIRST + "p = GlobalAveragePool(r)\n" + second("p") + "g = HardSigmoid(u2) \n m = Mul(r, g)\n"
    body += second("m", number=3, name="three") + "y = Identity(u3)"
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 8, 8, 1, 1) | weights(3, 4, 8, 1, 1)
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, **arrays)
    assert made.operators == {"QuantizeLayout": 3, "QConv": 3, "GlobalAveragePool": 1, "Mul": 1, "Transpose": 1}


GEMM = """
    q2 = AscendQuant <scale=9.25, offset=-128.0, dst_type="INT8">(f)
    [fc] g = Gemm(q2, w2, b2)
    y = AscendDequant(g, s2)
"""


@pytest.mark.parametrize("flatten", ["f = Flatten(r)", "f = Reshape(r, shape)"])
def test_flatten_in_front_of_gemm_permutes_the_weight(lowered, weights, image, flatten):
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 8 * 48, 5, channels=5)
    text = graph(ON_X, FIRST + flatten + GEMM, "float[N,5] y")
    made = lowered(text, {"x": image(2, 3, 8, 6)}, shape=np.array([0, -1]), **arrays)
    assert made.operators == {"QuantizeLayout": 1, "QConv": 1, "QGemm": 1, "Flatten": 1}
    columns = np.arange(8 * 48).reshape(8, 48).T.ravel()
    np.testing.assert_array_equal(made.node("fc").inputs[1].const_value.numpy(), arrays["w2"][columns])


def test_flatten_read_by_others_is_transposed(lowered, weights, image):
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 8 * 48, 5, channels=5)
    text = graph(ON_X, FIRST + "f = Flatten(r)" + GEMM, "float[N,5] y, float[N,K] f")
    made = lowered(text, {"x": image(2, 3, 8, 6)}, **arrays)
    assert made.node("fc").inputs[1].name == "w2"


def test_pooled_to_one_position_nothing_moves(lowered, weights, image):
    text = graph(ON_X, FIRST + "p = MaxPool <kernel_shape=[8,6]>(r) \n f = Flatten(p)" + GEMM, "float[N,5] y")
    made = lowered(text, {"x": image(2, 3, 8, 6)}, **weights(1, 8, 3, 3, 3), **weights(2, 8, 5, channels=5))
    assert "Transpose" not in made.operators
    assert made.operators["QPool"] == 1


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_matmul_with_its_bias(lowered, weights, image, rank):
    free = ",".join("ABCD"[: rank - 1])
    text = graph(
        f"float[{free},12] x",
        QX + "[mm] m = MatMul(qx, w1) \n a = Add(m, b1) \n v = AscendDequant(a, s1) \n t = Relu(v) \n y = Add(t, x2)",
        f"float[{free},7] y",
    ).replace(" x)", f" x, float[{free},7] x2)")
    shape = (2, 3, 4)[: rank - 1]
    feeds = {"x": image(*shape, 12), "x2": image(*shape, 7, seed=2)}
    arrays = weights(1, 12, 7, channels=7, per_channel=rank == 2)
    made = lowered(text, feeds, **arrays)
    assert made.operators == {"QuantizeLayout": 1, "QGemm": 1}
    assert made.node("mm").op_type == "QGemm"
    assert made.epilogue("mm") == ["relu 0", "add 1 r0"]


def test_gemm_with_a_transposed_weight(lowered, weights, image):
    text = graph(
        "float[N,12] x", QX + "[fc] m = Gemm <transB=1>(qx, w1, b1) \n y = AscendDequant(m, s1)", "float[N,7] y"
    )
    made = lowered(text, {"x": image(4, 12)}, **weights(1, 7, 12))
    assert made.report.stayed_float == {}


POOL = """
    [pool] p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2], {}>(qx)
    v = AscendDequant(p, s1)
    y = Relu(v)
"""


@pytest.mark.parametrize("attributes", ["count_include_pad=0", "count_include_pad=1", "ceil_mode=1"])
def test_average_pool(lowered, weights, image, attributes):
    made = lowered(graph(ON_FREE, QX + POOL.format(attributes)), {"x": image(2, 3, 7, 9)}, s1=weights(1, 1)["s1"])
    assert made.operators == {"QuantizeLayout": 1, "QPool": 1}


def test_average_pool_with_a_pad_of_its_own(lowered, weights):
    """AMCT quantizes in front of the Pad; padded int8 zeros stand for real zeros."""
    body = QX + "e = Pad(qx, pads, zero)\n" + POOL.format("ceil_mode=0").replace("(qx)", "(e)")
    pads = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    made = lowered(graph(ON_FREE, body), pads=pads, zero=np.int8(0), s1=weights(1, 1)["s1"])
    assert made.operators == {"QuantizeLayout": 1, "Pad": 1, "QPool": 1}
    assert [node.op_type for node in made.model.graph] == ["QuantizeLayout", "Pad", "QPool"]
    pad = next(node for node in made.model.graph if node.op_type == "Pad")
    assert pad.inputs[2].const_value.numpy() == 128 - 5


ANTI = "{0} = AscendAntiQuant <scale={2}, offset={3}, dtype=0>(q{0}_)\n"


def pair(name: str, value: str, scale: str, scale_d: str, offset: str) -> str:
    """A tensor that is quantized and back: value → name."""
    quant = f'q{name}_ = AscendQuant <scale={scale}, offset={offset}, dst_type="INT8">({value})\n'
    return quant + ANTI.format(name, value, scale_d, offset)


def test_add_of_two_quantized_tensors(lowered, weights, image):
    body = FIRST + pair("a", "r", "16.0", "0.0625", "-20.0") + pair("e", "r", "8.0", "0.125", "3.0")
    body += "[sum] s = Add(a, e) \n t = Relu(s)\n" + second("t") + "y = Identity(u2)"
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, **weights(1, 8, 3, 3, 3), **weights(2, 5, 8, 1, 1))
    assert made.operators == {"QuantizeLayout": 1, "QConv": 2, "QAdd": 1}
    assert made.epilogue("sum") == ["relu 0"]
    assert {layer.operator for layer in made.report.layers} == {"QConv", "QAdd"}


def test_quantized_max_pool(lowered, weights, image):
    """Quantized, pooled as codes, and back to float where float is wanted."""
    body = FIRST + pair("a", "r", "16.0", "0.0625", "-20.0") + "p = MaxPool <kernel_shape=[2,2]>(a) \n y = Sigmoid(p)"
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, **weights(1, 8, 3, 3, 3))
    assert made.operators == {"QuantizeLayout": 1, "QConv": 1, "QPool": 1, "DequantizeLayout": 1, "Sigmoid": 1}


def test_one_quantized_summand_is_a_residual(lowered, weights, image):
    body = FIRST + pair("a", "x", "16.0", "0.0625", "-20.0") + second("r") + "y = Add(u2, a)"
    made = lowered(graph(ON_FREE, body), {"x": image(2, 3, 8, 6)}, **weights(1, 8, 3, 3, 3), **weights(2, 3, 8, 1, 1))
    assert made.operators == {"QuantizeLayout": 2, "QConv": 2, "DequantizeLayout": 1}
    assert made.epilogue("two") == ["add 0 r0"]


def test_batch_and_size_are_free(lowered, convs, image):
    feeds = [{"x": image(*shape)} for shape in ((1, 3, 4, 4), (3, 3, 9, 5), (2, 3, 16, 33))]
    lines = "m = MaxPool <kernel_shape=[2,2], strides=[2,2]>(r)\n"
    lowered(graph(ON_FREE, FIRST + lines + second("m") + "y = Relu(u2)"), feeds, **convs())


def test_a_value_read_inside_a_body_keeps_its_form(lowered, weights, image):
    body = (
        FIRST
        + "y = If (cond) <then_branch = t () => (float[N,8,H,W] a) { a = Neg(r) },"
        + " else_branch = e () => (float[N,8,H,W] b) { b = Identity(r) }>"
    )
    text = graph(ON_FREE + ", bool cond", body)
    feeds = [{"x": image(2, 3, 8, 6), "cond": np.array(flag)} for flag in (True, False)]
    made = lowered(text, feeds, **weights(1, 8, 3, 3, 3))
    assert made.operators == {"QuantizeLayout": 1, "QConv": 1, "If": 1}


def test_ranks_that_only_the_weights_tell(lowered, weights, image):
    body = FIRST + second("r") + "y = Relu(u2)"
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 5, 8, 1, 1)
    made = lowered(graph("float[] x", body, "float[] y"), {"x": image(2, 3, 8, 6)}, **arrays)
    assert made.operators == {"QuantizeLayout": 1, "QConv": 2}
    gemm = QX + "[fc] g = Gemm(qx, w1, b1) \n v = AscendDequant(g, s1) \n y = Relu(v)"
    made = lowered(graph("float[] x", gemm, "float[] y"), {"x": image(4, 12)}, **weights(1, 12, 7, channels=7))
    assert made.operators == {"QuantizeLayout": 1, "QGemm": 1}


def test_nodes_without_names(lowered, weights, image):
    body = (FIRST + second("r") + second("u2", number=3)).replace("[one] ", "").replace("[two] ", "")
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 5, 8, 1, 1) | weights(3, 4, 5, 1, 1)
    made = lowered(graph(ON_FREE, body + "y = Relu(u3)"), {"x": image(2, 3, 8, 6)}, **arrays)
    assert [layer.name for layer in made.report.layers] == ["c", "d2", "d3"]


def test_names_of_what_is_left_are_kept(lowered, convs, image):
    made = lowered(
        graph(ON_FREE, FIRST + "[g] g = Sigmoid(r)\n y = Mul(g, x2)").replace(" x)", " x, float[N,8,H,W] x2)"),
        **convs(),
    )
    assert [v.name for v in made.model.graph.inputs] == ["x", "x2"]
    assert [node.name for node in made.model.graph if node.op_type == "Sigmoid"] == ["g"]
    assert made.node("g").inputs[0].name == "r"
    assert set(made.model.graph.initializers) >= {"w1"}
    assert "s1" not in made.model.graph.initializers


@pytest.mark.parametrize("opset", [11, 12, 17])
def test_optimizations_of_the_runtime_change_nothing(lowered, weights, image, opset):
    body = FIRST + second("r") + "y = Add(u2, x)"
    text = graph(ON_FREE, body).replace('"": 13', f'"": {opset}')
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 3, 8, 1, 1)
    lowered(text, {"x": image(2, 3, 8, 6)}, level="ORT_ENABLE_ALL", **arrays)
