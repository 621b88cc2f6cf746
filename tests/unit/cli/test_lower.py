"""``ort-quant lower``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir


def test_lowers_a_deploy_file(ort_quant, digits, tmp_path, run_model):
    out = tmp_path / "l.onnx"
    result = ort_quant("lower", digits.outputs["ascend"], "-o", out)
    assert "9 of 9 quantized layers run in int8" in result.out
    assert str(out) in result.out
    feed = {ir.load(digits.model).graph.inputs[0].name: np.load(digits.evaluation)[:16]}
    (expected,) = run_model(digits.outputs["fake_quant"], feed).values()
    (found,) = run_model(out, feed).values()
    np.testing.assert_array_equal(found, expected)
    assert "ort_quant.version" in ir.load(out).metadata_props


def test_details(ort_quant, digits, tmp_path):
    result = ort_quant("lower", digits.outputs["ascend"], "-o", tmp_path / "l.onnx", "-v")
    assert "stem_conv" in result.out
    assert "QConv" in result.out
    assert "Operators: " in result.out


def test_json(ort_quant, digits, tmp_path):
    document = ort_quant("lower", digits.outputs["ascend"], "-o", tmp_path / "l.onnx", "--json").document
    assert document["schema"] == "ort-quant/lower/1"
    assert (document["int8"], document["float"]) == (9, 0)
    assert {layer["operator"] for layer in document["layers"]} == {"QConv", "QConvChain", "QGemm", "QPool"}
    chained = [layer["name"] for layer in document["layers"] if layer["chain"] == "pointwise_conv"]
    assert chained == ["stem_conv", "depthwise_conv", "pointwise_conv"]
    assert document["operators"]["QConvChain"] == 1
    assert document["operators"]["QConv"] == sum(layer["operator"] == "QConv" for layer in document["layers"])


def test_the_default_name(ort_quant, digits, tmp_path):
    deploy = tmp_path / "net_deploy_model.onnx"
    deploy.write_bytes(Path(digits.outputs["ascend"]).read_bytes())
    ort_quant("lower", deploy)
    assert (tmp_path / "net_ort_model.onnx").is_file()
    assert "exists already" in ort_quant("lower", deploy, code=2).err
    ort_quant("lower", deploy, "--force")


def test_anything_but_a_deploy_model_is_refused(ort_quant, digits, tmp_path, files_before_and_after):
    files = files_before_and_after()
    for kind in ("fake_quant", "qdq", "ort"):
        err = ort_quant("lower", digits.outputs[kind], "-o", tmp_path / "l.onnx", code=2).err
        assert f"is a {kind} model; expected a deploy model" in err
    assert "is a float model" in ort_quant("lower", digits.model, "-o", tmp_path / "l.onnx", code=2).err
    assert "does not exist" in ort_quant("lower", tmp_path / "none.onnx", code=2).err
    assert files.unchanged()
