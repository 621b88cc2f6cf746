"""inspect: the layer table of float, calibration and quantized models."""

from __future__ import annotations

import pytest


def test_float_model(ort_quant, digits):
    result = ort_quant("inspect", digits.model)
    assert "float model, opset 13; 9 layers can be quantized, 2 stay float" in result.out
    row = next(line for line in result.out.splitlines() if line.startswith("stem_conv"))
    assert row.split() == ["stem_conv", "Conv", "yes", "per-channel"]
    assert "no: only its input tensors can be quantized" in result.out
    assert "Scale" not in result.out


def test_record_adds_scales(ort_quant, digits):
    out = ort_quant("inspect", digits.model, "--record", digits.record, "-v").out
    row = next(line.split() for line in out.splitlines() if line.startswith("stem_conv"))
    known = {layer["name"]: layer for layer in digits.report["layers"]}["stem_conv"]
    assert float(row[4]) == pytest.approx(known["scale_d"], rel=1e-5)
    assert int(row[5]) == known["offset_d"]
    assert ".." in row[6]


@pytest.mark.parametrize(
    ("target", "kind"), [("fake_quant", "fake_quant"), ("ascend", "deploy"), ("ort", "ort"), ("qdq", "qdq")]
)
def test_quantized_models(ort_quant, digits, target, kind):
    document = ort_quant("inspect", digits.outputs[target], "--json").document
    assert document["schema"] == "ort-quant/inspect/1"
    assert document["kind"] == kind
    found = {layer["name"]: layer for layer in document["layers"]}
    known = {layer["name"]: layer for layer in digits.report["layers"]}
    assert found["stem_conv"]["scale_d"] == pytest.approx(known["stem_conv"]["scale_d"], rel=1e-6)
    assert found["stem_conv"]["weight_granularity"] == "per-channel"


def test_config_and_explain(ort_quant, digits, tmp_path):
    ort_quant("config", digits.model, "-o", tmp_path / "c.json", "--skip-layer", "stem_conv")
    out = ort_quant("inspect", digits.model, "--config", tmp_path / "c.json", "--explain").out
    assert "8 layers can be quantized, 3 stay float" in out
    assert "took in BatchNormalization 'stem_bn'" in out
    assert "Relu x6" in out


def test_wide_when_piped_and_folded_when_narrow(ort_quant, digits):
    wide = ort_quant("inspect", digits.model).out
    assert "only its input tensors can be quantized, on request (tensor_quantize)" in wide
    narrow = ort_quant("inspect", digits.model, env={"COLUMNS": "60"}).out
    assert max(len(line) for line in narrow.splitlines()[1:]) <= 60
    assert "…" not in narrow


def test_bad_input(ort_quant, digits, tmp_path):
    ort_quant("inspect", tmp_path / "gone.onnx", code=2)
    ort_quant("inspect", digits.model, "--record", tmp_path / "gone.txt", code=2)
    ort_quant("inspect", digits.model, "--config", tmp_path / "gone.json", code=2)
