"""The `ort` model computes the bits of the fake_quant model, on nets of every kind, and says how much of it is int8."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.model import write_model

TARGETS = ["fake_quant", "ascend", "ort"]
F = np.float32
HEAD = '<ir_version: 8, opset_import: ["": 13]>\n'


@pytest.fixture
def quantize(tmp_path):
    """Quantize a model (path, or ir.Model) on feeds to the targets of this module."""

    def _quantize(model, data, **options):
        path = model
        if isinstance(model, ir.Model):
            path = tmp_path / "float.onnx"
            write_model(model, path)
        return oq.quantize(path, data, tmp_path / "net", targets=TARGETS, progress=False, **options)

    return _quantize


@pytest.fixture
def same_bits(run_model):
    """Demand that the `ort` model gives the bits of fake_quant: 1 and 2 threads, with and without optimizations."""

    def _same_bits(report, feeds):
        for feed in feeds:
            expected = run_model(report.outputs["fake_quant"], feed)
            for level, threads in (("ORT_DISABLE_ALL", 1), ("ORT_ENABLE_ALL", 2)):
                found = run_model(report.outputs["ort"], feed, level=level, threads=threads)
                assert list(found) == list(expected)
                for name, array in expected.items():
                    assert found[name].dtype == array.dtype
                    np.testing.assert_array_equal(found[name].view(np.uint8), array.view(np.uint8), name)

    return _same_bits


def operators(report) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in ir.load(report.outputs["ort"]).graph:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


def in_int8(report) -> bool:
    """Whether no layer stays float in the `ort` model, by the report."""
    return not [note for layer in report.layers for note in layer.notes if note.startswith("ort:")]


# ---- small nets: float graph, shapes of feeds, expected operators


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(F)


NETS = {
    "residual": (
        """net (float[N,8,H,W] x) => (float[N,4,P,Q] y) {
            a = Conv <pads=[1,1,1,1]>(x, w1, b1)
            ra = Relu(a)
            c = Conv <pads=[1,1,1,1]>(ra, w1, b1)
            s = Add(c, ra)
            rs = Relu(s)
            d = Conv <strides=[2,2]>(rs, w2)
            e = Conv <pads=[1,1,1,1], strides=[2,2]>(rs, w1, b1)
            f = Conv(e, w2)
            t = Add(f, d)
            y = Relu(t)
        }""",
        {"w1": normal(1, 8, 8, 3, 3, scale=0.2), "b1": normal(2, 8), "w2": normal(3, 4, 8, 1, 1)},
        [(2, 8, 9, 13), (1, 8, 16, 8)],
        {"QuantizeLayout": 1, "QConv": 5},
    ),
    "transposed": (
        """net (float[N,6,H,W] x) => (float[N,3,P,Q] y) {
            a = ConvTranspose <strides=[2,2], pads=[1,1,0,0], output_padding=[1,0]>(x, w1, b1)
            r = LeakyRelu <alpha=0.2>(a)
            y = ConvTranspose <group=2>(r, w2)
        }""",
        {"w1": normal(1, 6, 4, 3, 3), "b1": normal(2, 4), "w2": normal(3, 4, 2, 2, 2)},
        [(2, 6, 5, 7), (1, 6, 4, 4)],
        {"QuantizeLayout": 1, "QConvTranspose": 2},
    ),
    "three dimensions": (
        """net (float[N,2,D,H,W] x) => (float[N,5,P,Q,R] y) {
            a = Conv <pads=[1,1,1,1,1,1], strides=[1,2,2]>(x, w1, b1)
            r = Relu(a)
            m = MaxPool <kernel_shape=[1,2,2], strides=[1,2,2]>(r)
            y = Conv <dilations=[1,2,1]>(m, w2)
        }""",
        {"w1": normal(1, 6, 2, 3, 3, 3), "b1": normal(2, 6), "w2": normal(3, 5, 6, 1, 2, 2)},
        [(1, 2, 5, 16, 17), (2, 2, 3, 24, 20)],
        {"QuantizeLayout": 1, "QConv": 2, "QPool": 1},
    ),
    "pools and branches": (
        """net (float[N,3,H,W] x) => (float[N,7] y, float[N,16,P,Q] k) {
            a = Conv <pads=[2,0,1,1]>(x, w1, b1)
            r = Clip(a, zero, six)
            p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2], count_include_pad=1>(r)
            m = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(r)
            c = Concat <axis=1>(p, m)
            k = Conv <group=4>(c, w2)
            g = GlobalAveragePool(k)
            f = Flatten(g)
            y = Gemm(f, w3, b3)
        }""",
        {
            "w1": normal(1, 8, 3, 3, 3),
            "b1": normal(2, 8),
            "zero": F(0),
            "six": F(6),
            "w2": normal(3, 16, 4, 1, 1),
            "w3": normal(4, 16, 7),
            "b3": normal(5, 7),
        },
        [(2, 3, 12, 11), (1, 3, 8, 20)],
        {"QuantizeLayout": 2, "QConv": 2, "QPool": 2, "Concat": 1, "GlobalAveragePool": 1, "Flatten": 1, "QGemm": 1},
    ),
    "flatten": (
        """net (float[N,3,8,6] x) => (float[N,7] y) {
            a = Conv <pads=[1,1,1,1]>(x, w1, b1)
            r = Relu(a)
            f = Flatten(r)
            y = Gemm <transB=1>(f, w2, b2)
        }""",
        {"w1": normal(1, 5, 3, 3, 3), "b1": normal(2, 5), "w2": normal(3, 7, 240), "b2": normal(4, 7)},
        [(3, 3, 8, 6)],
        {"QuantizeLayout": 1, "QConv": 1, "Flatten": 1, "QGemm": 1},
    ),
    "tokens": (
        """net (float[N,T,12] x) => (float[N,T,5] y) {
            a = MatMul(x, w1)
            s = Add(a, b1)
            r = Relu(s)
            c = MatMul(r, w2)
            d = Add(c, s2)
            y = Sigmoid(d)
        }""",
        {"w1": normal(1, 12, 9), "b1": normal(2, 9), "w2": normal(3, 9, 5), "s2": normal(4, 1)},
        [(2, 3, 12), (1, 11, 12)],
        {"QuantizeLayout": 1, "QGemm": 2, "Sigmoid": 1},
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_small_nets(build, quantize, same_bits, name):
    text, arrays, shapes, expected = NETS[name]
    feeds = [{"x": normal(10 + i, *shape)} for i, shape in enumerate(shapes)]
    report = quantize(build(HEAD + text, **arrays), feeds)
    same_bits(report, [*feeds, {"x": normal(30, *shapes[0], scale=50)}])
    assert operators(report) == expected
    assert in_int8(report)


def test_quantized_inputs_of_add_and_max_pool(build, quantize, same_bits, tmp_path):
    """AMCT's tensor quantization: one input of the sum, and the input of the pool, go through codes."""
    text = """net (float[N,3,H,W] x) => (float[N,4,P,Q] y) {
        [one] a = Conv(x, w1)
        [two] b = Conv(x, w2)
        [sum] s = Add(a, b)
        [relu] r = Relu(s)
        [pool] p = MaxPool <kernel_shape=[2,2]>(r)
        [tanh] y = Tanh(p)
    }"""
    config = tmp_path / "t.cfg"
    inputs = (("sum", 1), ("pool", 0))
    config.write_text(
        "batch_num: 1\n"
        + "\n".join(f'tensor_quantize {{ layer_name: "{name}" input_index: {index} }}' for name, index in inputs)
    )
    model = build(HEAD + text, w1=normal(1, 4, 3, 3, 3), w2=normal(2, 4, 3, 3, 3))
    report = quantize(model, [{"x": normal(4, 2, 3, 9, 8)}], config=config)
    same_bits(report, [{"x": normal(5, 2, 3, 9, 8)}])
    assert operators(report) == {
        "QuantizeLayout": 1,
        "QConv": 2,
        "QPool": 1,
        "DequantizeLayout": 2,
        "Tanh": 1,
    }


def test_float16_nets_stay_float_with_a_reason(build, quantize, run_model):
    text = "net (float16[N,3,H,W] x) => (float16[N,4,P,Q] y) {\n [one] y = Conv(x, w1) }"
    report = quantize(
        build(HEAD + text, w1=normal(1, 4, 3, 3, 3).astype(np.float16)),
        [{"x": normal(4, 2, 3, 9, 8).astype(np.float16)}],
    )
    assert [layer.notes for layer in report.layers] == [("ort: stays float: it is a float16 layer",)]
    feed = {"x": normal(5, 2, 3, 9, 8).astype(np.float16)}
    expected, found = (run_model(report.outputs[kind], feed)["y"] for kind in ("fake_quant", "ort"))
    np.testing.assert_array_equal(found, expected)


# ---- digits: the file, its report, lowering from the deploy file


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def quantized(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return oq.quantize(
        demo_model_path(), digits.calibration, folder / "digits", targets=TARGETS, batch_size=64, progress=False
    )


def digits_feed(digits):
    return {ir.load(demo_model_path()).graph.inputs[0].name: digits.evaluation}


def test_digits(quantized, digits, same_bits):
    same_bits(quantized, [digits_feed(digits)])
    assert in_int8(quantized)
    assert any(note.startswith("ort:") and "run in int8" in note for note in quantized.notes)


def test_provenance(quantized):
    model = ir.load(quantized.outputs["ort"])
    assert {"ort_quant.version", "ort_quant.config_sha256"} <= set(model.metadata_props)
    assert not ir.load(quantized.outputs["ascend"]).metadata_props


def test_lower_a_deploy_file(quantized, digits, run_model, tmp_path):
    """The deploy file alone gives the same model, however it was made."""
    report = oq.lower_model(quantized.outputs["ascend"], tmp_path / "again.onnx")
    assert report.output == tmp_path / "again.onnx"
    assert report.stayed_float == {}
    feed = digits_feed(digits)
    (expected,) = run_model(quantized.outputs["ort"], feed).values()
    (found,) = run_model(report.output, feed).values()
    np.testing.assert_array_equal(found, expected)
    assert json.dumps(report.to_dict())


def test_a_deploy_file_without_declared_shapes(quantized, digits, run_model, tmp_path):
    """AMCT writes none for the tensors in between."""
    model = ir.load(quantized.outputs["ascend"])
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
    write_model(model, tmp_path / "bare_deploy_model.onnx")
    report = oq.lower_model(tmp_path / "bare_deploy_model.onnx")
    assert report.output == tmp_path / "bare_ort_model.onnx"
    feed = digits_feed(digits)
    (expected,) = run_model(quantized.outputs["fake_quant"], feed).values()
    (found,) = run_model(report.output, feed).values()
    np.testing.assert_array_equal(found, expected)
    assert len(report.int8) == len(quantized.quantized)


def test_weights_in_external_files(quantized, digits, run_model, tmp_path):
    model = ir.load(quantized.outputs["ascend"])
    write_model(model, tmp_path / "net_deploy_model.onnx", force_external=True)
    report = oq.lower_model(tmp_path / "net_deploy_model.onnx")
    assert sorted(p.name for p in tmp_path.glob("*_ort.external"))
    (expected,) = run_model(quantized.outputs["ort"], digits_feed(digits)).values()
    (found,) = run_model(report.output, digits_feed(digits)).values()
    np.testing.assert_array_equal(found, expected)


# ---- real models


@pytest.mark.slow
def test_efficientnet_lite0(shared_model, photos, tmp_path, same_bits):
    preprocess = oq.ImagePreprocess(mean=(127, 127, 127), std=(128, 128, 128), crop=224)
    listing = tmp_path / "calibration.txt"
    listing.write_text("\n".join(str(path) for path, _ in photos("calibration")[:16]))
    model = shared_model("efficientnet_lite0.onnx")
    report = oq.quantize(
        model, listing, tmp_path / "net", targets=TARGETS, preprocess=preprocess, batch_size=4, progress=False
    )
    from ort_quant_plugin.model import input_specs, read_model

    listing.write_text("\n".join(str(path) for path, _ in photos("validation")[:8]))
    data = oq.open_data(listing, input_specs(read_model(model)), preprocess=preprocess, batch_size=4)
    same_bits(report, list(data))
    assert operators(report) == {
        "QuantizeLayout": 2,
        "QConvChain": 16,
        "QConv": 1,
        "QGemm": 1,
        "GlobalAveragePool": 1,
        "Reshape": 1,
    }
    assert report.outputs["ort"].stat().st_size <= 0.27 * model.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "layers"), [("cls", 192, 54), ("rec", 320, 48)])
def test_text_models(wheel_model, text_lines, quantize, same_bits, name, width, layers):
    report = quantize(wheel_model(name), text_lines(6, width, 1))
    assert len(report.quantized) == layers
    assert in_int8(report)
    same_bits(report, [*text_lines(2, width, 2), *text_lines(1, 2 * width, 3)])


@pytest.mark.slow
def test_text_detection(wheel_model, photos, scaled_photos, quantize, same_bits):
    feeds = [{"x": feed["images"] * 2 - 1} for feed in scaled_photos("calibration", 4, 320)]
    report = quantize(wheel_model("det"), feeds[:3])
    assert in_int8(report)
    assert operators(report)["QConvTranspose"] == 2
    same_bits(report, [feeds[3], {"x": feeds[3]["x"][:, :, :256, :192]}])


@pytest.mark.slow
def test_nudenet_at_several_sizes(wheel_model, scaled_photos, quantize, same_bits):
    report = quantize(wheel_model("nudenet"), scaled_photos("calibration", 4, 320))
    assert in_int8(report)
    assert operators(report)["QPool"] == 3
    same_bits(report, [*scaled_photos("validation", 1, 320), *scaled_photos("validation", 1, 256)])
