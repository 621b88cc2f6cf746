"""Preparation of real models: same outputs, expected structure."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image, ImageDraw, ImageFont

from ort_quant_plugin.model import read_model, write_model
from ort_quant_plugin.passes import prepare

# Folding scales into weights re-associates float32 sums: every layer differs by some ULP (6e-8). Over fifty layers this
# adds up to at most 1.8e-5 of the largest output (measured: det, whose last Sigmoid is steep), a cosine of 1 - 5e-12.
RELATIVE = 5e-5
COSINE = 1 - 1e-10

MODELS = {
    "cls": ((1, 3, 48, 192), (3, 3, 48, 192)),
    "rec": ((1, 3, 48, 320), (2, 3, 48, 160)),
    "det": ((1, 3, 160, 224), (2, 3, 96, 96)),
    "nudenet": ((1, 3, 320, 320), (2, 3, 192, 256)),
    "magika": ((1, 2048), (3, 2048)),
    "efficientnet_lite0.onnx": ((1, 3, 224, 224), (3, 3, 224, 224)),
    "efficientnet_lite0_raw.onnx": ((1, 3, 224, 224), (3, 3, 224, 224)),
}


def _input(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Bytes, or pictures of a line of text in -1 to 1: without text the OCR models say 1e-6, all rounding noise."""
    if np.issubdtype(dtype, np.integer):
        return np.random.default_rng(3).integers(0, 256, shape).astype(dtype)
    batch, _, height, width = shape
    pictures = []
    for i in range(batch):
        picture = Image.new("RGB", (width, height), (250 - 20 * i, 240, 230))
        font = ImageFont.load_default(size=28)
        ImageDraw.Draw(picture).text((8, height // 2 - 16), f"INT8 {i}7 quantized", fill=(20, 30, 40), font=font)
        pictures.append(np.asarray(picture).transpose(2, 0, 1))
    return ((np.stack(pictures) / 255.0 - 0.5) / 0.5).astype(dtype)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, wheel_model, shared_model):
    """Original and prepared file of a model, and the reports; each prepared once."""
    folder = tmp_path_factory.mktemp("prepared")
    done = {}

    def _prepared(name):
        if name not in done:
            path = shared_model(name) if name.endswith(".onnx") else wheel_model(name)
            model = read_model(path)
            reports = {r.name: r for r in prepare(model)}
            write_model(model, folder / f"{name}.onnx")
            done[name] = path, folder / f"{name}.onnx", reports
        return done[name]

    return _prepared


def _operators(path) -> dict[str, int]:
    return dict(Counter(node.op_type for node in ir.load(path).graph))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in MODELS.items() for shape in shapes])
def test_outputs_are_the_same(name, shape, prepared, run):
    before, after, _ = prepared(name)
    spec = ir.load(before).graph.inputs[0]
    feeds = {spec.name: _input(shape, spec.dtype.numpy())}
    expected, actual = run(before, feeds), run(after, feeds)
    assert list(actual) == list(expected)
    for key, reference in expected.items():
        a, b = reference.astype(np.float64).ravel(), actual[key].astype(np.float64).ravel()
        assert np.max(np.abs(a - b)) <= RELATIVE * np.max(np.abs(a))
        assert a @ b >= COSINE * np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize("name", ["nudenet", "magika", "efficientnet_lite0.onnx"])
def test_models_without_folded_arithmetic_are_bit_identical(name, prepared, run):
    before, after, reports = prepared(name)
    assert not any(reports[p].changes for p in ("fuse_bn_mul", "fuse_bn_add", "fuse_conv_scale", "fuse_conv_bn"))
    spec = ir.load(before).graph.inputs[0]
    feeds = {spec.name: _input(MODELS[name][1], spec.dtype.numpy())}
    for a, b in zip(run(before, feeds).values(), run(after, feeds).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_raw_and_folded_efficientnet_become_the_same_graph(prepared):
    expected = {"Conv": 49, "Clip": 33, "Add": 9, "GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1}
    assert _operators(prepared("efficientnet_lite0_raw.onnx")[1]) == expected
    assert _operators(prepared("efficientnet_lite0.onnx")[1]) == expected


def test_raw_and_folded_efficientnet_have_the_same_weights(prepared):
    """The folded file was made from the raw one by another tool: equal up to float32 rounding of the folding."""

    def layers(path):
        constants = [
            (n.op_type, [v.const_value.numpy() for v in n.inputs[1:] if v is not None])
            for n in ir.load(path).graph
            if n.op_type in {"Conv", "Gemm"}
        ]
        pads = [n.attributes["pads"].as_ints() for n in ir.load(path).graph if n.op_type == "Conv"]
        return constants, pads

    (raw, raw_pads), (folded, folded_pads) = (layers(prepared(f"efficientnet_lite0{s}.onnx")[1]) for s in ("_raw", ""))
    assert raw_pads == folded_pads
    for (op, a), (other, b) in zip(raw, folded, strict=True):
        assert op == other
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * np.abs(y).max())


@pytest.mark.parametrize(
    ("name", "gone", "fused"),
    [
        ("cls", {"BatchNormalization", "Shape", "Slice", "Cast", "Identity", "Constant"}, 35),
        ("rec", {"BatchNormalization", "Shape", "Cast", "Constant"}, 6),
        ("det", {"BatchNormalization", "Constant"}, 3),
        ("efficientnet_lite0_raw.onnx", {"BatchNormalization", "Shape", "Pad", "ConstantOfShape", "Constant"}, 49),
    ],
)
def test_operators_that_vanish(name, gone, fused, prepared):
    _, after, reports = prepared(name)
    assert not gone & set(_operators(after))
    assert len(reports["fuse_conv_bn"].changes) == fused


@pytest.mark.parametrize("name", MODELS)
def test_prepared_models_are_at_rest(name, prepared):
    """Preparing a prepared model changes nothing."""
    again = prepare(read_model(prepared(name)[1]))
    done = {r.name: r.changes for r in again if r.changes and r.name != "infer_shapes"}
    assert done == {}


@pytest.mark.parametrize("name", ["cls", "rec", "det"])
def test_without_fusion_every_layer_stays_and_says_why(name, wheel_model):
    model = read_model(wheel_model(name))
    before = Counter(node.op_type for node in model.graph)
    reports = {r.name: r for r in prepare(model, do_fusion=False)}
    after = Counter(node.op_type for node in model.graph)
    assert after["BatchNormalization"] == before["BatchNormalization"]
    declined = [d.reason for r in reports.values() if r.name.startswith("fuse_") for d in r.declined]
    assert sum(reason == "do_fusion is false" for reason in declined) >= before["BatchNormalization"]
    assert not any(r.changes for r in reports.values() if r.name.startswith("fuse_"))
