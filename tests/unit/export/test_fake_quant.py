"""The simulation model: layout, exact integers, and two forms with the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.model import const_array
from ort_quant_plugin.qparams import unpack_deq_scale

HEADER = '<ir_version: 8, opset_import: ["": 13]>\n'
RNG = np.random.default_rng(7)


def test_layout_is_amct_s(small_calibrated, names):
    _, model, _ = small_calibrated.export("fake_quant")
    operators = names(model)
    for layer in ("conv1", "conv2", "fc"):
        assert operators[f"{layer}.quant"] == "AscendQuant"
        assert operators[f"{layer}.dequant"] == "AscendDequant"
    domains = {node.domain for node in model.graph if node.op_type.startswith("Ascend")}
    assert domains == {"amct.customop"}
    assert model.opset_imports["amct.customop"] == 1


def test_quantizers_of_one_tensor_are_merged_into_the_first(small_calibrated, names):
    _, model, _ = small_calibrated.export("fake_quant")
    assert "conv3.quant" not in names(model)
    nodes = {n.name: n for n in model.graph}
    assert nodes["conv3"].inputs[0] is nodes["conv2.quant"].outputs[0]


def test_weights_and_biases_hold_integers(small_calibrated):
    _, model, _ = small_calibrated.export("fake_quant")
    for node in model.graph:
        if node.op_type in {"Conv", "Gemm"}:
            for value in node.inputs[1:]:
                array = const_array(value)
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array, np.rint(array))


def test_inputs_and_outputs_stay(small_calibrated):
    _, model, _ = small_calibrated.export("fake_quant")
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0].producer().name == "fc.dequant"
    assert next(n for n in model.graph if n.name == "fc").outputs[0].name == "fc_output0"


@pytest.mark.parametrize("threads", [1, 2])
def test_both_forms_give_the_same_bits(small_calibrated, run_model, threads):
    custom, _, _ = small_calibrated.export("fake_quant")
    custom = custom.rename(custom.with_name("custom.onnx"))
    onnx, model, _ = small_calibrated.export("fake_quant", fake_quant_form="onnx")
    assert set(model.opset_imports) == {""}
    a = run_model(custom, small_calibrated.feeds, threads=threads)["y"]
    b = run_model(onnx, small_calibrated.feeds, threads=threads)["y"]
    np.testing.assert_array_equal(a, b)


def test_the_arithmetic_is_integer_arithmetic(build, calibrate, run_model):
    """A Gemm, against int64 arithmetic written out here."""
    weight, bias = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    x = RNG.normal(size=(32, 6)).astype(np.float32)
    made = calibrate(
        build(HEADER + "g (float[N,6] x) => (float[N,4] y) { [fc] y = Gemm(x, w, b) }", w=weight, b=bias), {"x": x}
    )
    path, model, _ = made.export("fake_quant")
    _, plan = made.plan()
    numbers = plan.layers["fc"]
    scale_d, offset = numbers.activation.scale, numbers.activation.offset
    scale_w = np.abs(weight).max() / np.float32(127 if weight.max() > -weight.min() else 128)
    assert numbers.scale_w.tolist() == [scale_w]
    q = np.clip(np.rint(x * (np.float32(1) / scale_d)) + offset, -128, 127).astype(np.int64) - offset
    w = np.clip(np.rint(weight / scale_w), -128, 127).astype(np.int64)
    b = np.rint(bias / (scale_d * scale_w)).astype(np.int64)
    expected = (q @ w + b).astype(np.float32) * (scale_d * scale_w)
    np.testing.assert_array_equal(run_model(path, {"x": x})["y"], expected)
    packed = const_array(model.graph.initializers["fc.dequant.param"])
    np.testing.assert_array_equal(unpack_deq_scale(packed)[0], [scale_d * scale_w])


def test_matmul_bias_is_quantized_and_dequantized_behind_the_add(build, calibrate, names):
    text = HEADER + "g (float[N,6] x) => (float[N,4] y) { [mm] t = MatMul(x, w) [add] y = Add(t, b) }"
    weight, bias = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
    made = calibrate(build(text, w=weight, b=bias), {"x": RNG.normal(size=(9, 6)).astype(np.float32)})
    _, model, _ = made.export("fake_quant")
    nodes = {n.name: n for n in model.graph}
    assert nodes["mm.dequant"].inputs[0].producer().name == "add"
    np.testing.assert_array_equal(const_array(nodes["add"].inputs[1]), np.rint(const_array(nodes["add"].inputs[1])))


def test_constant_on_the_left(build, calibrate, run_model, cosine):
    weight, x = RNG.normal(size=(4, 6)).astype(np.float32), RNG.normal(size=(6, 9)).astype(np.float32)
    made = calibrate(build(HEADER + "g (float[6,N] x) => (float[4,N] y) { [mm] y = MatMul(w, x) }", w=weight), {"x": x})
    path, model, _ = made.export("fake_quant")
    assert next(n for n in model.graph if n.name == "mm").inputs[1].producer().name == "mm.quant"
    assert cosine(run_model(path, {"x": x})["y"], weight @ x) > 0.999


def test_tensor_quantization_is_quant_then_anti_quant(build, calibrate, run_model, tmp_path):
    cfg = tmp_path / "t.cfg"
    cfg.write_text('tensor_quantize { layer_name: "pool" input_index: 0 }')
    text = (
        HEADER
        + """g (float[N,2,4,4] x) => (float[] y) {
        [conv] c = Conv(x, w) [pool] y = MaxPool <kernel_shape=[2,2]>(c) }"""
    )
    x = RNG.normal(size=(4, 2, 4, 4)).astype(np.float32)
    made = calibrate(build(text, w=RNG.normal(size=(2, 2, 1, 1)).astype(np.float32)), {"x": x}, config=str(cfg))
    path, model, _ = made.export("fake_quant")
    pool = next(n for n in model.graph if n.name == "pool")
    anti = pool.inputs[0].producer()
    assert (anti.op_type, anti.inputs[0].producer().op_type) == ("AscendAntiQuant", "AscendQuant")
    steps = run_model(path, {"x": x})["y"] / np.float32(anti.attributes["scale"].as_float())
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)  # one float32 division away from an integer below 2^9


def test_float16_layers_compute_in_float32_between_float16_borders(build, calibrate, run_model, cosine):
    text = HEADER + "g (float16[N,2,4,4] x) => (float16[] y) { [conv] y = Conv(x, w, b) }"
    x = RNG.normal(size=(4, 2, 4, 4)).astype(np.float16)
    weight, bias = RNG.normal(size=(3, 2, 2, 2)).astype(np.float16), RNG.normal(size=3).astype(np.float16)
    made = calibrate(build(text, w=weight, b=bias), {"x": x})
    assert "op_data_type: 'FLOAT16'" in made.record.read_text()
    path, model, _ = made.export("fake_quant")
    custom = path.rename(path.with_name("custom.onnx"))
    assert model.opset_imports["amct.customop.extfp16"] == 1
    onnx, _, _ = made.export("fake_quant", fake_quant_form="onnx")
    a, b = run_model(custom, {"x": x})["y"], run_model(onnx, {"x": x})["y"]
    assert a.dtype == np.float16
    np.testing.assert_array_equal(a, b)
    assert cosine(a, run_model(made.float_model, {"x": x})["y"]) > 0.999


def test_forced_float16_quantization_reaches_the_operators(small, calibrate, tmp_path):
    cfg = tmp_path / "h.cfg"
    cfg.write_text("fakequant_precision_mode: FORCE_FP16_QUANT")
    x = RNG.normal(size=(8, 3, 9, 9)).astype(np.float32)
    made = calibrate(small(), {"x": x}, config=str(cfg))
    _, model, _ = made.export("fake_quant")
    ours = [n for n in model.graph if n.op_type in {"AscendQuant", "AscendDequant"}]
    assert {n.attributes["fakequant_precision_mode"].as_string() for n in ours} == {"FORCE_FP16_QUANT"}
    with pytest.raises(UnsupportedError, match="standard operators cannot express"):
        made.export("fake_quant", fake_quant_form="onnx")


@pytest.mark.parametrize("form", ["custom", "onnx"])
def test_float16_matmul_with_bias(build, calibrate, run_model, cosine, form):
    text = HEADER + "g (float16[N,5,6] x) => (float16[] y) { [mm] t = MatMul(x, w) [add] y = Add(t, b) }"
    weight, bias = RNG.normal(size=(6, 4)).astype(np.float16), RNG.normal(size=4).astype(np.float16)
    made = calibrate(build(text, w=weight, b=bias), {"x": RNG.normal(size=(9, 5, 6)).astype(np.float16)})
    path, _, exported = made.export("fake_quant", fake_quant_form=form)
    assert cosine(run_model(path, made.feeds)["y"], run_model(made.float_model, made.feeds)["y"]) > 0.999
    assert bool(exported.notes) == (form == "onnx")
