"""The QDQ model: what ONNX Runtime's optimizer makes of it decides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.export.qdq import UnsignedParams, within_bounds
from ort_quant_plugin.export.runtime_check import executed_operators
from ort_quant_plugin.model import const_array
from ort_quant_plugin.qparams import QuantParams

HEADER = '<ir_version: 8, opset_import: ["": 13]>\n'
RNG = np.random.default_rng(9)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def operators(path):
    return Counter(op for _, op in executed_operators(path))


def test_unsigned_form_is_the_same_mapping():
    params = QuantParams(np.float32(0.5), -100)
    unsigned = UnsignedParams.of(params)
    assert unsigned == UnsignedParams(np.float32(0.5), 28)
    assert unsigned.range == params.range


@pytest.mark.parametrize(
    ("params", "bounds", "expected"),
    [
        (UnsignedParams(np.float32(0.02), 0), (0, 6), UnsignedParams(np.float32(0.02), 0)),  # 5.1 < 6: as it is
        (UnsignedParams(np.float32(0.04), 0), (0, np.inf), UnsignedParams(np.float32(0.04), 0)),
        (UnsignedParams(np.float32(1), 128), (0, np.inf), UnsignedParams(np.float32(127 / 255), 0)),  # symmetric, Relu
    ],
)
def test_within_bounds(params, bounds, expected):
    assert within_bounds(params, *bounds) == expected


@pytest.mark.parametrize("bounds", [(-2.0, -0.1), (0.1, 0.6), (0.0, 0.0), (-np.inf, -5.0), (1e-30, 2e-30)])
@pytest.mark.parametrize("zero_point", [0, 100, 255])
def test_bounds_on_one_side_of_zero_leave_a_legal_mapping(bounds, zero_point):
    """Once an endless loop, or a zero point outside of uint8."""
    params = within_bounds(UnsignedParams(np.float32(0.02), zero_point), *bounds)
    assert 0 <= params.zero_point <= 255
    assert params.scale > 0


def test_narrowed_to_six_the_last_code_is_not_above_six():
    params = within_bounds(UnsignedParams(np.float32(0.03), 0), 0.0, 6.0)
    assert params.zero_point == 0
    assert np.float32(255) * params.scale <= np.float32(6)
    assert np.float32(255) * np.nextafter(params.scale, np.float32(1)) >= np.float32(6)


def test_every_layer_of_a_small_net_becomes_int8(small_calibrated):
    path, _, exported = small_calibrated.export("qdq")
    assert exported.stayed_float == {}
    found = operators(path)
    assert found["QLinearConv"] == 3
    assert found["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "Clip"} & set(found)


def test_activations_are_uint8_weights_int8_biases_private_int32(small_calibrated):
    _, model, _ = small_calibrated.export("qdq")
    assert set(model.opset_imports) == {""}
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            assert const_array(node.inputs[2]).dtype == np.uint8
        if node.op_type in {"Conv", "Gemm"}:
            weight, *bias = (value.producer().inputs[0] for value in node.inputs[1:])
            assert const_array(weight).dtype == np.int8
            for value in bias:
                assert const_array(value).dtype == np.int32
                assert len(value.uses()) == 1


def test_residual_add_becomes_int8(build, calibrate):
    text = (
        HEADER
        + """g (float[N,4,6,6] x) => (float[] y) {
        [a] a = Conv(x, wa) [ra] ra = Relu(a) [b] b = Conv(ra, wb) [add] s = Add(b, ra) [rs] rs = Relu(s)
        [c] c = Conv(rs, wc) [add2] s2 = Add(c, rs) [gap] g = GlobalAveragePool(s2) [flat] f = Flatten(g)
        [fc] y = Gemm(f, wf) }"""
    )
    arrays = {k: normal(4, 4, 1, 1) for k in ("wa", "wb", "wc")} | {"wf": normal(4, 3)}
    made = calibrate(build(text, **arrays), {"x": normal(4, 4, 6, 6)})
    path, _, exported = made.export("qdq")
    assert exported.stayed_float == {}
    found = operators(path)
    assert (found["QLinearConv"], found["QLinearAdd"], found["QGemm"]) == (3, 1, 1)
    assert found["Relu"] == 0
    assert found["QLinearGlobalAveragePool"] + found["GlobalAveragePool"] == 1


def test_a_conv_that_feeds_float_operators_is_int8_all_the_same(build, calibrate):
    text = (
        HEADER
        + """g (float[N,4,6,6] x) => (float[] y) {
        [a] a = Conv(x, w) [s] s = Sigmoid(a) [m] y = Mul(a, s) }"""
    )
    made = calibrate(build(text, w=normal(4, 4, 1, 1)), {"x": normal(4, 4, 6, 6)})
    assert "a:output" in made.record.read_text()
    path, _, exported = made.export("qdq")
    assert exported.stayed_float == {}
    assert operators(path)["QLinearConv"] == 1


def test_a_conv_that_is_the_output_is_int8_and_the_output_keeps_its_name(build, calibrate, run_model, cosine):
    made = calibrate(
        build(HEADER + "g (float[N,4,6,6] x) => (float[] y) { [a] y = Conv(x, w) }", w=normal(4, 4, 1, 1)),
        {"x": normal(4, 4, 6, 6)},
    )
    path, model, exported = made.export("qdq")
    assert exported.stayed_float == {}
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert cosine(run_model(path, made.feeds)["y"], run_model(made.float_model, made.feeds)["y"]) > 0.999


def test_matmul_with_bias_on_2d_data_becomes_a_gemm(build, calibrate):
    text = HEADER + "g (float[N,6] x) => (float[N,4] y) { [mm] t = MatMul(x, w) [add] y = Add(t, b) }"
    made = calibrate(build(text, w=normal(6, 4), b=normal(4)), {"x": normal(9, 6)})
    path, _, exported = made.export("qdq")
    assert exported.stayed_float == {}
    assert operators(path)["QGemm"] == 1


def test_matmul_on_3d_data_is_an_integer_matmul(build, calibrate):
    text = HEADER + "g (float[N,5,6] x) => (float[N,5,4] y) { [mm] t = MatMul(x, w) [add] y = Add(t, b) }"
    made = calibrate(build(text, w=normal(6, 4), b=normal(4)), {"x": normal(2, 5, 6)})
    path, _, exported = made.export("qdq")
    assert exported.stayed_float == {}
    assert operators(path)["MatMulIntegerToFloat"] == 1


def test_average_pool_becomes_int8(build, calibrate):
    text = (
        HEADER
        + """g (float[N,4,6,6] x) => (float[] y) {
        [a] a = Conv(x, w) [p] p = AveragePool <kernel_shape=[2,2], strides=[2,2]>(a) [b] y = Conv(p, v) }"""
    )
    made = calibrate(build(text, w=normal(4, 4, 1, 1), v=normal(4, 4, 1, 1)), {"x": normal(4, 4, 6, 6)})
    path, _, exported = made.export("qdq")
    assert exported.stayed_float == {}
    assert operators(path)["QLinearAveragePool"] == 1


@pytest.mark.parametrize(
    ("text", "arrays", "feeds", "reason"),
    [
        (
            "g (float[N,4,6,6] x) => (float[] y) { [l] y = ConvTranspose(x, w) }",
            {"w": (4, 4, 2, 2)},
            (4, 4, 6, 6),
            "no int8 ConvTranspose",
        ),
        ("g (float[6,N] x) => (float[] y) { [l] y = MatMul(w, x) }", {"w": (4, 6)}, (6, 9), "constant on the left"),
    ],
)
def test_layers_that_stay_float_are_reported(build, calibrate, run_model, cosine, text, arrays, feeds, reason):
    values = {k: normal(*shape) for k, shape in arrays.items()}
    made = calibrate(build(HEADER + text, **values), {"x": normal(*feeds)})
    path, _, exported = made.export("qdq")
    assert reason in exported.stayed_float["l"]
    assert cosine(run_model(path, made.feeds)["y"], run_model(made.float_model, made.feeds)["y"]) > 0.995


def test_without_the_range_of_its_output_a_conv_is_reported_as_float(build, calibrate):
    """AMCT's own records do not have that range; the check of the optimized graph finds the layer."""
    text = (
        HEADER
        + """g (float[N,4,6,6] x) => (float[] y) {
        [a] a = Conv(x, w) [s] s = Sigmoid(a) [m] y = Mul(a, s) }"""
    )
    made = calibrate(build(text, w=normal(4, 4, 1, 1)), {"x": normal(4, 4, 6, 6)}, observe_outputs=False)
    assert "a:output" not in made.record.read_text()
    _, _, exported = made.export("qdq")
    assert "instead of an int8 kernel" in exported.stayed_float["a"]


def test_float16_layers_stay_float_with_a_reason(build, calibrate):
    text = HEADER + "g (float16[N,2,4,4] x) => (float16[] y) { [conv] y = Conv(x, w) }"
    made = calibrate(build(text, w=normal(3, 2, 2, 2).astype(np.float16)), {"x": normal(4, 2, 4, 4).astype(np.float16)})
    _, model, exported = made.export("qdq")
    assert "FLOAT16" in exported.stayed_float["conv"]
    assert "DequantizeLinear" not in {n.op_type for n in model.graph}


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_older_opsets_are_raised(build, calibrate, opset):
    header = f'<ir_version: 7, opset_import: ["": {opset}]>\n'
    text = header + "g (float[N,4,6,6] x) => (float[N,4,6,6] y) { [a] c = Conv(x, w) [r] y = Relu(c) }"
    made = calibrate(build(text, w=normal(4, 4, 1, 1)), {"x": normal(4, 4, 6, 6)})
    path, model, exported = made.export("qdq")
    assert model.opset_imports[""] == 13
    assert exported.stayed_float == {}
    assert operators(path)["QLinearConv"] == 1


def test_symmetric_activations_behind_a_relu_use_all_codes(build, calibrate):
    text = (
        HEADER
        + """g (float[N,4,6,6] x) => (float[] y) {
        [a] a = Conv(x, w) [r] r = Relu(a) [b] y = Conv(r, v) }"""
    )
    model = build(text, w=normal(4, 4, 1, 1), v=normal(4, 4, 1, 1))
    made = calibrate(model, {"x": normal(4, 4, 6, 6)}, activation_offset=False)
    path, written, exported = made.export("qdq")
    assert exported.stayed_float == {}
    assert operators(path)["Relu"] == 0
    assert const_array(written.graph.initializers["r.zero_point"]) == 0
    assert "narrowed" in exported.notes[0]


def test_numbers_follow_the_record(small_calibrated):
    _, model, _ = small_calibrated.export("qdq")
    _, plan = small_calibrated.plan()
    first = plan.layers["conv1"]
    assert const_array(model.graph.initializers["x.scale"]) == first.activation.scale
    assert const_array(model.graph.initializers["x.zero_point"]) == first.activation.offset + 128
    np.testing.assert_array_equal(const_array(model.graph.initializers["conv1.weight.int"]), first.integers)
    np.testing.assert_array_equal(const_array(model.graph.initializers["conv1.bias.int"]), first.bias)
    assert isinstance(model, ir.Model)


def test_names_of_the_user_are_never_taken(build, calibrate, run_model, cosine):
    """A parameter called ``x.scale`` once became the activation scale of x."""
    text = (
        HEADER
        + """g (float[N,4,6,6] x) => (float[] y, float[] z) {
        [mul] z = Mul(x, k) [conv] y = Conv(x, w) }"""
    )
    model = build(text, k=np.float32(3), w=normal(4, 4, 1, 1))
    for old, new in (("k", "x.scale"), ("w", "conv.weight.scale")):
        value = model.graph.initializers.pop(old)
        value.name = value.const_value.name = new
        model.graph.register_initializer(value)
    next(n for n in model.graph if n.name == "mul").name = "conv.quant"
    made = calibrate(model, {"x": normal(4, 4, 6, 6)})
    expected = run_model(made.float_model, made.feeds)
    for target, options in (("qdq", {}), ("fake_quant", {}), ("fake_quant", {"fake_quant_form": "onnx"})):
        path, _, _ = made.export(target, **options)
        for name, value in run_model(path, made.feeds).items():
            assert cosine(value, expected[name]) > 0.999


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [("dilations=[2,2]", "no dilations"), ("ceil_mode=1, count_include_pad=1, pads=[1,1,0,1]", "ceil_mode")],
)
def test_average_pools_that_onnxruntime_gets_wrong_stay_float(build, calibrate, attributes, reason):
    text = f"""<ir_version: 9, opset_import: ["": 19]>
    g (float[N,4,9,9] x) => (float[] y) {{
        [p] y = AveragePool <kernel_shape=[3,3], strides=[2,2], {attributes}>(x) }}"""
    made = calibrate(build(text), {"x": normal(4, 4, 9, 9)})
    _, _, exported = made.export("qdq")
    assert reason in exported.stayed_float["p"]


def test_a_bias_that_overflows_only_here_keeps_its_layer_float(build, calibrate):
    """The range behind the Clip is narrowed from 0.06 to 0.02, so the bias needs three times the codes."""
    text = (
        HEADER
        + """g (float[N,1,2,2] x) => (float[] y) {
        [a] a = Conv(x, wa) [clip] c = Clip(a, lo, hi) [b] y = Conv(c, wb, bb) }"""
    )
    one = np.ones((1, 1, 1, 1), np.float32)
    model = build(text, wa=one, lo=np.float32(0), hi=np.float32(0.02), wb=one * 1e-3, bb=np.float32([0.0]))
    made = calibrate(model, {"x": np.linspace(0, 1, 64, dtype=np.float32).reshape(16, 1, 2, 2)})
    text = made.record.read_text()
    start = text.index("scale_d: ", text.index('key: "b"'))
    old = text[start : text.index("\n", start)]
    made.record.write_text(text[:start] + text[start:].replace(old, "scale_d: 0.5", 1))
    calibrated, plan = made.plan()
    bias = next(n for n in calibrated.graph if n.name == "b").inputs[2]
    deq = float(plan.layers["b"].deq_scale[0])
    bias.const_value = ir.tensor(np.float32([deq * 2.0**30]), name=bias.name)
    from ort_quant_plugin.export import BUILTIN_EXPORTERS, ExportOptions, build_plan, write_targets
    from ort_quant_plugin.record import Record

    plan = build_plan(calibrated, Record.read(made.record))
    _, results = write_targets(calibrated, plan, made.folder / "n", BUILTIN_EXPORTERS, ExportOptions())
    assert "int32" in results["qdq"].stayed_float["b"]
    assert results["fake_quant"].stayed_float == {}
