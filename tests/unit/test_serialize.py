"""Models written tensor by tensor are the same messages."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ort_quant_plugin.demo import demo_model_path
from ort_quant_plugin.serialize import write_model_proto

MODEL = """<ir_version: 3, opset_import: ["": 13], producer_name: "p">
g (float[N,4] x, float[300,7] w) => (float[M,7] y) <float[300,7] w> { y = MatMul(x, w) }"""


def written(model):
    stream = io.BytesIO()
    write_model_proto(model, stream)
    return stream.getvalue()


def sorted_initializers(proto):
    proto.graph.initializer.sort(key=lambda tensor: tensor.name)
    return proto


@pytest.mark.parametrize("kind", ["demo", "old", "lazy"])
def test_the_message_is_that_of_onnx_ir(kind):
    if kind == "demo":
        model = ir.load(demo_model_path())
    else:
        model = ir.from_onnx_text(MODEL)
        array = np.arange(2100, dtype=np.int8).reshape(300, 7)
        tensor = ir.tensor(array.astype(np.float32), name="other")
        if kind == "lazy":
            tensor = ir.LazyTensor(
                lambda: ir.tensor(array.astype(np.float32)), dtype=ir.DataType.FLOAT, shape=ir.Shape([300, 7])
            )
        value = model.graph.inputs[1]
        value.const_value = tensor
        model.graph.initializers.add(value)
    before = ir.to_proto(model)
    found = onnx.ModelProto.FromString(written(model))
    assert sorted_initializers(found) == sorted_initializers(before)
    assert sorted_initializers(ir.to_proto(model)) == before
    assert len(written(model)) == len(before.SerializeToString())


def test_lengths_beyond_one_byte():
    """Varints of one to four bytes: 100 B, 20 kB and 3 MB tensors."""
    model = ir.from_onnx_text(MODEL)
    for name, size in (("a", 25), ("b", 5000), ("c", 750_000)):
        array = np.arange(size, dtype=np.float32)
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        model.graph.register_initializer(value)
    found = onnx.ModelProto.FromString(written(model))
    for tensor in found.graph.initializer:
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(tensor), np.arange(tensor.dims[0], dtype=np.float32), err_msg=tensor.name
        )
    assert {tensor.name for tensor in found.graph.initializer} == {"a", "b", "c"}
