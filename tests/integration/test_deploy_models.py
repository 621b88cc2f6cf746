"""Untouched deploy models in ONNX Runtime: the bits of the fake-quant model, at every optimization level."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.model import input_specs, read_model, write_model

LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
PREPROCESS = oq.ImagePreprocess(mean=(127, 127, 127), std=(128, 128, 128), crop=224)


def outputs(path, feed, level, threads, *, deploy, config=None):
    options = oq.session_options(
        run_deploy_models=deploy,
        graph_optimization_level=getattr(ort.GraphOptimizationLevel, level),
        intra_op_num_threads=threads,
        log_severity_level=3,
    )
    for key, entry in (config or {}).items():
        options.add_session_config_entry(key, entry)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feed)


def check(report, feeds, *, levels=LEVELS, threads=(1, 2), config=None):
    """Both models give the same bits."""
    for feed in feeds:
        expected = outputs(report.outputs["fake_quant"], feed, "ORT_DISABLE_ALL", 1, deploy=False, config=config)
        assert all(np.isfinite(value).all() for value in expected)
        for level in levels:
            for number in threads:
                found = outputs(report.outputs["ascend"], feed, level, number, deploy=True)
                for one, other in zip(expected, found, strict=True):
                    np.testing.assert_array_equal(other, one, err_msg=f"{level}, {number} threads")


def quantized(model, data, prefix, **choices):
    return oq.quantize(model, data, prefix, targets=["fake_quant", "ascend"], progress=False, **choices)


@pytest.mark.parametrize("activation_offset", [True, False])
def test_digits(tmp_path, activation_offset):
    digits = load_digits()
    report = quantized(
        demo_model_path(), digits.calibration, tmp_path / "d", activation_offset=activation_offset, batch_size=64
    )
    name = read_model(demo_model_path()).graph.inputs[0].name
    check(report, [{name: digits.evaluation}, {name: digits.evaluation[:1]}])


NETS = {
    "ConvTranspose": (
        (1, 3, 12, 10),
        """[c] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) r = Relu (a)
        [t] u = ConvTranspose <strides = [2, 2], pads = [1, 0, 1, 1], output_padding = [1, 0]> (r, w2, b2)
        s = Sigmoid (u) [e] y = Conv (s, w3)""",
        {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (6, 4, 3, 3), "b2": (4,), "w3": (2, 4, 1, 1)},
    ),
    "grouped ConvTranspose": (
        (1, 4, 7, 9),
        "[t] u = ConvTranspose <group = 2, strides = [3, 2]> (x, w1, b1) y = Tanh (u)",
        {"w1": (4, 3, 4, 3), "b1": (6,)},
    ),
    "3-D Conv": (
        (1, 2, 6, 8, 7),
        """[c] a = Conv <pads = [1, 0, 1, 0, 1, 1], strides = [1, 2, 1]> (x, w1, b1) r = Relu (a)
        [d] y = Conv <group = 2> (r, w2)""",
        {"w1": (4, 2, 3, 3, 3), "b1": (4,), "w2": (6, 2, 2, 2, 2)},
    ),
    "AveragePool": (
        (2, 3, 13, 12),
        """[c] a = Conv (x, w1) r = Relu (a)
        [p] q = AveragePool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 1]> (r)
        [z] z = Pad (q, pads) [o] o = AveragePool <kernel_shape = [3, 3]> (z) [e] y = Conv (o, w2)""",
        {"w1": (5, 3, 3, 3), "w2": (4, 5, 1, 1)},
    ),
    "all Conv attributes": (
        (1, 6, 17, 15),
        """[a] a = Conv <dilations = [2, 3], pads = [3, 1, 0, 2]> (x, w1, b1) ar = Relu (a)
        [b] b = Conv <group = 4, strides = [2, 1], pads = [0, 2, 1, 0]> (ar, w2) br = LeakyRelu (b)
        [c] c = Conv <group = 8, pads = [1, 1, 1, 1]> (br, w3, b3) cr = HardSigmoid (c)
        [d] d = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (cr, w4) e = Concat <axis = 1> (d, d) y = Relu (e)""",
        {"w1": (8, 6, 3, 2), "b1": (8,), "w2": (8, 2, 3, 3), "w3": (8, 1, 3, 3), "b3": (8,), "w4": (5, 8, 3, 3)},
    ),
    "Gemm": (
        (5, 24),
        """[g] g = Gemm <transB = 1> (x, w1, b1) r = Relu (g) [h] h = Gemm (r, w2) s = Softmax (h)
        [m] n = MatMul (s, w3) y = Add (n, b3)""",
        {"w1": (16, 24), "b1": (16,), "w2": (16, 9), "w3": (9, 7), "b3": (7,)},
    ),
    "batched MatMul": (
        (2, 3, 24),
        "[m] n = MatMul (x, w1) a = Add (n, b1) r = Relu (a) [o] o = MatMul (r, w2) y = Add (o, x)",
        {"w1": (24, 16), "b1": (16,), "w2": (16, 24)},
    ),
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("case", NETS)
def test_small_nets(build, tmp_path, case, opset):
    shape, nodes, shapes = NETS[case]
    rng = np.random.default_rng(len(case))
    constants = {n: (rng.normal(size=s) / 4).astype(np.float32) for n, s in shapes.items()}
    if "pads" in nodes and "Pad (" in nodes:
        constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 0])
    dims = ",".join(map(str, shape))
    text = f'<ir_version: 7, opset_import: ["": {opset}]>\ng (float[{dims}] x) => (float[] y) {{ {nodes} }}'
    write_model(build(text, **constants), tmp_path / "m.onnx")
    data = [{"x": rng.normal(0.3, 1, shape).astype(np.float32)} for _ in range(4)]
    report = quantized(tmp_path / "m.onnx", data, tmp_path / "q")
    layers = {name for name in "abcdeghmopt" if f"[{name}]" in nodes}
    assert len(report.quantized) == len(layers), [(x.name, x.reason) for x in report.stayed_float]
    check(report, [{"x": 3 * feed["x"]} for feed in data[:2]])


def test_layers_left_in_float(tmp_path):
    """ONNX Runtime computes them; a packed float matrix is summed in another order, so that is switched off."""
    digits = load_digits()
    convs = [layer.name for layer in oq.inspect(demo_model_path()).layers if layer.op_type == "Conv"]
    report = quantized(
        demo_model_path(),
        digits.calibration,
        tmp_path / "d",
        skip_layers=convs[1:2],
        skip_layer_types=["Gemm", "AveragePool"],
        batch_size=64,
    )
    assert len(report.stayed_float) > 2
    name = read_model(demo_model_path()).graph.inputs[0].name
    check(report, [{name: digits.evaluation[:64]}], config={"session.disable_prepacking": "1"})


@pytest.mark.slow
def test_efficientnet_lite0(shared_model, photos, tmp_path):
    """And in well below a second a photo: 0.4 G multiplications."""
    listing = tmp_path / "photos.txt"
    listing.write_text("\n".join(str(path) for path, _ in photos("calibration")[:8]))
    model = shared_model("efficientnet_lite0.onnx")
    report = quantized(model, listing, tmp_path / "e", preprocess=PREPROCESS)
    listing.write_text("\n".join(str(path) for path, _ in photos("validation")[:2]))
    feeds = list(oq.open_data(listing, input_specs(read_model(model)), preprocess=PREPROCESS))
    check(report, feeds, levels=LEVELS[::3])
    options = oq.session_options(run_deploy_models=True, intra_op_num_threads=1)
    session = ort.InferenceSession(str(report.outputs["ascend"]), options)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        session.run(None, feeds[0])
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.5 * len(next(iter(feeds[0].values())))


@pytest.mark.slow
def test_ppocr_cls(wheel_model, text_lines, tmp_path):
    """Calibrated at one width, run at two."""
    report = quantized(wheel_model("cls"), text_lines(8, 192, 1), tmp_path / "c")
    check(report, [*text_lines(1, 192, 2), *text_lines(1, 256, 2)])


@pytest.mark.slow
def test_nudenet(wheel_model, scaled_photos, tmp_path):
    report = quantized(wheel_model("nudenet"), scaled_photos("calibration", 2, 320), tmp_path / "n")
    check(report, scaled_photos("validation", 1, 320), levels=LEVELS[3:])


def test_compare_runs_the_deploy_model(tmp_path):
    digits = load_digits()
    report = quantized(demo_model_path(), digits.calibration, tmp_path / "d", batch_size=64)
    name = read_model(demo_model_path()).graph.inputs[0].name
    result = oq.compare(
        demo_model_path(),
        [report.outputs["fake_quant"], report.outputs["ascend"]],
        [{name: digits.evaluation}],
        layers=True,
    )
    simulation, deploy = result.candidates
    assert deploy.outputs[0].to_dict() == pytest.approx(simulation.outputs[0].to_dict())
    assert [layer.name for layer in deploy.layers] == [layer.name for layer in simulation.layers]
