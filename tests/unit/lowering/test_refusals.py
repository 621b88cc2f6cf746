"""What stays float: with a reason, and right."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.lowering import lower
from ort_quant_plugin.model import write_model
from ort_quant_plugin.qparams import pack_deq_scale

F = np.float32
HEAD = '<ir_version: 8, opset_import: ["": 13]>\n'
QX = 'qx = AscendQuant <scale=32.5, offset=-5.0, dst_type="INT8">(x)\n'
CONV = QX + "[conv] c = Conv <pads=[1,1,1,1]>(qx, w1, b1) \n v = AscendDequant <dtype=0>(c, s1) \n y = Relu(v)"
MATRIX = "net (float[N,12] x) => (float[N,7] y) {\n"
IMAGE = "net (float[N,3,H,W] x) => (float[N,M,P,Q] y) {\n"


def test_shift_bits(lowered, weights, image):
    arrays = weights(1, 8, 3, 3, 3)
    arrays["s1"] = pack_deq_scale(np.full(8, 2e-4, F), np.full(8, 3))
    made = lowered(HEAD + IMAGE + CONV + "}", {"x": image(2, 3, 5, 6)}, **arrays)
    assert made.report.stayed_float == {"conv": "its dequantization shifts (shift_bit)"}
    assert made.operators == {"AscendQuant": 1, "Conv": 1, "AscendDequant": 1, "Relu": 1}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("alpha=2.0", "alpha is 2.0; expected 1.0"),
        ("beta=0.5", "beta is 0.5; expected 1.0"),
        ("transA=1", "transA is 1; expected 0"),
    ],
)
def test_gemm_that_is_no_plain_product(lowered, weights, image, attributes, reason):
    body = QX + f"[fc] g = Gemm <{attributes}>(qx, w1, b1) \n y = AscendDequant(g, s1) }}"
    shape = (12, 4) if "transA" in attributes else (4, 12)
    head = MATRIX.replace("float[N,12]", "float[12,N]") if "transA" in attributes else MATRIX
    made = lowered(HEAD + head + body, {"x": image(*shape)}, **weights(1, 12, 7, channels=7))
    assert made.report.stayed_float == {"fc": reason}


def test_matmul_with_its_constant_on_the_left(lowered, weights, image):
    body = QX + "[mm] m = MatMul(w1, qx) \n y = AscendDequant(m, s1) }"
    made = lowered(
        HEAD + "net (float[12,N] x) => (float[7,N] y) {\n" + body,
        {"x": image(12, 5)},
        **weights(1, 7, 12, bias=False, per_channel=False),
    )
    assert made.report.stayed_float == {"mm": "its constant is on the left"}


def test_matmul_with_a_scale_a_channel_on_three_axes(lowered, weights, image):
    """AscendDequant takes axis 1 for the channels there, QGemm the last."""
    body = QX + "[mm] m = MatMul(qx, w1) \n y = AscendDequant(m, s1) }"
    made = lowered(
        HEAD + "net (float[N,7,12] x) => (float[N,7,7] y) {\n" + body,
        {"x": image(2, 7, 12)},
        **weights(1, 12, 7, channels=7, bias=False),
    )
    assert "more than 2 dimensions" in made.report.stayed_float["mm"]


def test_int4_weights(build, weights, run_model, tmp_path, image):
    """AMCT narrows the weight in the graph and casts the bias; the float form holds the numbers those give."""
    body = QX + 'n = AscendWeightQuant <dst_type="INT4">(w1, o) \n bf = Cast <to=1>(b1) \n [conv] c = Conv(qx, n, bf)\n'
    body += "y = AscendDequant(c, s1) }"
    arrays = weights(1, 8, 3, 1, 1)
    arrays["w1"] = (arrays["w1"] // 16).astype(np.int8)
    model = build(HEAD + IMAGE + body, o=np.zeros((8, 1, 1, 1), np.int8), **arrays)
    report = lower(model)
    assert report.stayed_float == {"conv": "its weight is narrowed to INT4"}
    write_model(model, tmp_path / "m.onnx")
    x = image(1, 3, 2, 2)
    (found,) = run_model(tmp_path / "m.onnx", {"x": x}).values()
    q = np.clip(np.rint(x * F(32.5)) - 5, -128, 127) + 5
    scale = (arrays["s1"] & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(F)
    acc = np.einsum("nchw,mc->nmhw", q, arrays["w1"][:, :, 0, 0]) + arrays["b1"][None, :, None, None]
    np.testing.assert_array_equal(found, acc.astype(F) * scale[None, :, None, None])


def test_float16_layers(build, weights, run_model, tmp_path, image):
    body = QX + "[conv] c = Conv(qx, w1) \n y = AscendDequant <dtype=1>(c, s1) }"
    text = HEAD + IMAGE.replace("float", "float16") + body
    model = build(text, **weights(1, 8, 3, 1, 1, bias=False))
    report = lower(model)
    assert report.stayed_float == {"conv": "it is a float16 layer"}
    assert {node.domain for node in model.graph if node.op_type != "Conv"} == {"amct.customop.extfp16"}
    write_model(model, tmp_path / "m.onnx")
    (found,) = run_model(tmp_path / "m.onnx", {"x": image(1, 3, 4, 4).astype(np.float16)}).values()
    assert found.dtype == np.float16
    assert np.isfinite(found).all()


def test_weights_that_are_no_constants(build, weights, run_model, tmp_path, image):
    body = QX + "[conv] c = Conv(qx, dynamic) \n y = AscendDequant(c, s1) }"
    text = HEAD + IMAGE.replace(" x)", " x, int8[8,3,1,1] dynamic)") + body
    arrays = weights(1, 8, 3, 1, 1, bias=False)
    dynamic = arrays.pop("w1")
    model = build(text, **arrays)
    assert lower(model).stayed_float == {"conv": "its weight is not a constant"}
    write_model(model, tmp_path / "dynamic.onnx")
    fixed = build(HEAD + IMAGE + body.replace("dynamic", "w1"), w1=dynamic, **arrays)
    lower(fixed)
    write_model(fixed, tmp_path / "fixed.onnx")
    x = image(1, 3, 4, 4)
    (found,) = run_model(tmp_path / "dynamic.onnx", {"x": x, "dynamic": dynamic}).values()
    (expected,) = run_model(tmp_path / "fixed.onnx", {"x": x}).values()
    np.testing.assert_array_equal(found, expected)


def test_an_int8_graph_output(build, run_model, tmp_path, image):
    text = HEAD + "net (float[N,3,H,W] x) => (int8[N,3,H,W] qx) {\n" + QX + "}"
    model = build(text)
    report = lower(model)
    assert "gives int8 to graph output 'qx'" in report.notes[0]
    write_model(model, tmp_path / "m.onnx")
    x = image(1, 3, 4, 4)
    (found,) = run_model(tmp_path / "m.onnx", {"x": x}).values()
    np.testing.assert_array_equal(found, np.clip(np.rint(x * F(32.5)) - 5, -128, 127).astype(np.int8))


def test_automatic_padding_narrower_than_the_stride(build, weights):
    model = build(
        HEAD + IMAGE + CONV.replace("pads=[1,1,1,1]", 'auto_pad="SAME_UPPER", strides=[4,4]') + "}",
        **weights(1, 8, 3, 3, 3),
    )
    assert "automatic padding" in lower(model).stayed_float["conv"]


def test_one_quantizer_for_a_layer_of_each_kind(lowered, weights, image):
    """The int8 layer and the float layer read the same tensor, each in its form."""
    body = CONV.replace("y = Relu(v)", "") + "[shifted] d = Conv(qx, w2) \n u = AscendDequant(d, s2) \n y = Add(v, u) }"
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 8, 3, 1, 1, bias=False)
    arrays["s2"] = pack_deq_scale(np.full(8, 2e-4, F), np.full(8, 3))
    made = lowered(HEAD + IMAGE + body, {"x": image(2, 3, 5, 6)}, **arrays)
    assert set(made.report.stayed_float) == {"shifted"}
    assert made.epilogue("conv") == ["add 0 r0"]


def test_an_accumulator_that_others_read(lowered, weights, image):
    body = CONV.replace("y = Relu(v)", "") + "[again] z = AscendDequant(c, s2) \n y = Add(v, z) }"
    arrays = weights(1, 8, 3, 3, 3) | {"s2": weights(2, 8, 3, 1, 1)["s2"]}
    made = lowered(HEAD + IMAGE + body, {"x": image(2, 3, 5, 6)}, **arrays)
    assert made.report.stayed_float == {"conv": "its accumulator is read by other nodes too"}


def test_precision_mode(build, weights):
    model = build(HEAD + IMAGE + CONV + "}", **weights(1, 8, 3, 3, 3))
    report = lower(model, modes={"conv": "FORCE_FP16_QUANT"})
    assert report.stayed_float == {"conv": "it simulates FORCE_FP16_QUANT"}
    modes = {
        n.attributes["fakequant_precision_mode"].as_string() for n in model.graph if n.op_type.startswith("Ascend")
    }
    assert modes == {"FORCE_FP16_QUANT"}


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("offset=-5.0", "offset=-5.0, sqrt_mode=1", "sqrt_mode"),
        ("offset=-5.0", 'offset=-5.0, round_mode="Floor"', "round_mode"),
        ("dtype=0", "dtype=0, relu_flag=1", "relu_flag"),
        ("scale=32.5, ", "", "scale"),
    ],
)
def test_variants_of_the_arithmetic_are_refused(build, weights, old, new, name):
    model = build(HEAD + IMAGE + CONV.replace(old, new) + "}", **weights(1, 8, 3, 3, 3))
    with pytest.raises(UnsupportedError, match=name):
        lower(model)


def test_a_bias_of_another_length(build, weights):
    arrays = weights(1, 8, 3, 3, 3)
    arrays["b1"] = arrays["b1"][:5]
    model = build(HEAD + IMAGE + CONV + "}", **arrays)
    assert lower(model).stayed_float == {"conv": "its bias has shape [5]; expected [8]"}


def test_sum_of_two_quantized_tensors_that_broadcasts(lowered, image):
    body = QX + "a = AscendAntiQuant <scale=0.03125, offset=-5.0>(qx) \n g = GlobalAveragePool(x)\n"
    body += 'qg = AscendQuant <scale=16.0, offset=3.0, dst_type="INT8">(g)\n'
    body += "e = AscendAntiQuant <scale=0.0625, offset=3.0>(qg)\n"
    made = lowered(HEAD + IMAGE + body + "[sum] y = Add(a, e) }", {"x": image(2, 3, 5, 6)})
    assert made.report.stayed_float == {"sum": "its inputs are not known to have the same shape"}
    assert made.operators["Add"] == 1


def test_a_dequantizer_without_a_layer(build, run_model, tmp_path):
    text = HEAD + "net (int32[N,3] x) => (float[N,3] y) {\n [dq] y = AscendDequant(x, s) }"
    model = build(text, s=pack_deq_scale(np.full(1, 0.5, F)))
    report = lower(model)
    assert "'dq' follows no layer" in report.notes[0]
    write_model(model, tmp_path / "m.onnx")
    (found,) = run_model(tmp_path / "m.onnx", {"x": np.array([[1, -2, 7]], np.int32)}).values()
    np.testing.assert_array_equal(found, np.array([[0.5, -1, 3.5]], F))
    assert model.graph.outputs[0].dtype == ir.DataType.FLOAT
