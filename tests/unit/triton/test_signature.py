"""What is read from a model: kind, precision, inputs and outputs, libraries, data files."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import ModelError, UnsupportedError
from ort_quant_plugin.triton.signature import Tensor, read_signature

LINEAR = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }"""
W = np.ones((3, 4), np.float32)
OPS, DEPLOY = "libort_quant_ops.so", "libort_quant_deploy.so"


@pytest.mark.parametrize(
    ("form", "kind", "precision", "libraries"),
    [
        ("float", "float", "fp32", ()),
        ("fake_quant", "fake_quant", "fake_quant", (OPS,)),
        ("ort", "ort", "int8-ort", (OPS,)),
        ("qdq", "qdq", "int8-qdq", ()),
        ("deploy", "deploy", "int8-deploy", (OPS, DEPLOY)),
    ],
)
def test_forms(digits, form, kind, precision, libraries):
    signature = read_signature(digits[form])
    assert (signature.kind, signature.precision, signature.libraries) == (kind, precision, libraries)
    assert signature.inputs == (Tensor("image", "FLOAT", (None, 1, 8, 8)),)
    assert signature.outputs == (Tensor("logits", "FLOAT", (None, 10)),)
    assert signature.batched
    assert not signature.is_calibration
    assert signature.foreign_domains == signature.external_files == ()


def test_calibration_model(digits):
    signature = read_signature(digits["calibration"])
    assert signature.is_calibration
    assert signature.precision == "calibration"
    assert signature.libraries == (OPS,)
    assert not signature.batched
    assert Tensor("ort_quant.flush", "BOOL", (1,), optional=True) in signature.inputs
    assert signature.outputs[-1] == Tensor("ort_quant.sketches", "UINT8", (None,))


def test_half_precision(save):
    text = LINEAR.replace("float", "float16")
    assert read_signature(save(text, w=W.astype(np.float16))).precision == "fp16"


def test_a_fixed_first_axis_is_no_batch_axis(save):
    assert not read_signature(save(LINEAR.replace("N", "1"), w=W)).batched
    constant = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3] x) => (float[N,4] y, float[1] z) { y = MatMul(x, w) z = ReduceSum<keepdims=0>(one) }"""
    assert not read_signature(save(constant, w=W, one=np.ones((1, 1), np.float32))).batched


def test_shapes_that_the_file_does_not_declare_are_inferred(save):
    model = save(LINEAR.replace("float[N,4] y", "float[] y"), w=W)
    declared = ir.load(model)
    declared.graph.outputs[0].shape = None
    ir.save(declared, model)
    assert read_signature(model).outputs == (Tensor("y", "FLOAT", (None, 4)),)


def test_unknown_rank(save):
    text = """<ir_version: 8, opset_import: ["": 17, "acme": 1]>
g (float[N,3] x) => (float[N] y) { y = acme.Do(x) }"""
    model = save(text)
    declared = ir.load(model)
    declared.graph.outputs[0].shape = None
    ir.save(declared, model)
    with pytest.raises(ModelError, match=r"number of axes of 'y'.*not known"):
        read_signature(model)


def test_scalar(save):
    text = """<ir_version: 8, opset_import: ["": 17]>
g (float[3] x) => (float y) { y = ReduceSum<keepdims=0>(x) }"""
    assert read_signature(save(text)).outputs == (Tensor("y", "FLOAT", ()),)


def test_foreign_operators(save):
    text = """<ir_version: 8, opset_import: ["": 17, "acme": 1]>
g (float[N,3] x) => (float[N,3] y) { y = acme.Do(x) }"""
    signature = read_signature(save(text))
    assert signature.foreign_domains == ("acme",)
    assert signature.libraries == ()


def test_old_files_list_weights_as_inputs(save):
    model = save(LINEAR, w=W)
    old = ir.load(model)
    old.graph.inputs.append(old.graph.initializers["w"])
    ir.save(old, model)
    assert [tensor.name for tensor in read_signature(model).inputs] == ["x"]


def test_external_data(save):
    signature = read_signature(save(LINEAR.replace("4]", "400]"), external=True, w=np.ones((3, 400), np.float32)))
    (location,) = signature.external_files
    assert (signature.path.parent / location).is_file()


def test_external_data_elsewhere(save, tmp_path):
    model = save(LINEAR.replace("4]", "400]"), external=True, w=np.ones((3, 400), np.float32))
    (location,) = read_signature(model).external_files
    (model.parent / location).rename(tmp_path / "weights.bin")
    moved = ir.load(model)
    tensor = moved.graph.initializers["w"].const_value
    moved.graph.initializers["w"].const_value = ir.ExternalTensor(
        "../weights.bin",
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name="w",
        base_dir=model.parent,
    )
    ir.save(moved, model)
    with pytest.raises(UnsupportedError, match=r"'\.\./weights\.bin', outside its own folder"):
        read_signature(model)


def test_sequences(save):
    text = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3] x) => (seq(float[N,3]) y) { y = SequenceConstruct(x) }"""
    with pytest.raises(UnsupportedError, match=r"'y' .* is no dense tensor"):
        read_signature(save(text))
