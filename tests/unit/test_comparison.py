"""compare: outputs, classes, labels and layers of models that run in ONNX Runtime."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.calibration.data import open_data
from ort_quant_plugin.comparison import compare
from ort_quant_plugin.comparison_layers import compare_layers
from ort_quant_plugin.errors import DataError, ModelError
from ort_quant_plugin.labels import read_labels
from ort_quant_plugin.model import input_specs, read_model

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def tensor(name, array):
    return ir.val(name, const_value=ir.tensor(np.asarray(array), name=name))


class Builder:
    """A graph x[N, 4] -> … in a few lines."""

    def __init__(self, opset=13, shape=("N", 4)):
        self.x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(shape))
        self.nodes, self.constants, self.opset = [], [], {"": opset}

    def add(self, op, inputs, name, domain="", **attributes):
        values = [item if isinstance(item, ir.Value) else self.constant(name, item) for item in inputs]
        if domain:
            self.opset[domain] = 1
        node = ir.node(op, values, attributes, domain=domain, name=name)
        node.outputs[0].name = f"{name}.out"
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, name, array):
        self.constants.append(tensor(f"{name}.c{len(self.constants)}", array))
        return self.constants[-1]

    def save(self, path, outputs):
        for value, name in outputs.items():
            value.name, value.type = name, FLOAT
        graph = ir.Graph(
            [self.x], list(outputs), nodes=self.nodes, initializers=self.constants, opset_imports=self.opset, name="g"
        )
        ir.save(ir.Model(graph, ir_version=8), path)
        return path


RNG = np.random.default_rng(5)
W1, W2 = RNG.normal(size=(4, 6)).astype(np.float32), RNG.normal(size=(6, 3)).astype(np.float32)
X = RNG.normal(size=(40, 4)).astype(np.float32)


def float_model(path, w1=W1, w2=W2, output="y"):
    b = Builder()
    h = b.add("Relu", [b.add("MatMul", [b.x, w1], "fc1")], "relu")
    return b.save(path, {b.add("MatMul", [h, w2], "fc2"): output})


def fake_quant_model(path, noise=0.0):
    """AMCT's plain-ONNX layout: <layer>.quant.fakequant.*, integer-valued weights, <layer>.fakedequant.mul."""
    b = Builder()

    def layer(x, weight, name, noise):
        scale_d, scale_w = np.float32(0.05), np.float32(np.abs(weight).max() / 127)
        q = b.add(
            "Round", [b.add("Mul", [x, 1 / scale_d], f"{name}.quant.fakequant.mul")], f"{name}.quant.fakequant.round"
        )
        out = b.add("MatMul", [q, np.round(weight / scale_w) + np.float32(noise)], name)
        return b.add("Mul", [out, scale_d * scale_w], f"{name}.fakedequant.mul")

    h = b.add("Relu", [layer(b.x, W1, "fc1", 0.0)], "relu")
    return b.save(path, {layer(h, W2, "fc2", noise): "y"})


def qdq_model(path):
    b = Builder()

    def pair(x, name):
        q = b.add("QuantizeLinear", [x, np.float32(0.05), np.uint8(128)], f"{name}.quant")
        return b.add("DequantizeLinear", [q, np.float32(0.05), np.uint8(128)], f"{name}.dequant")

    def weight(w, name):
        scale = np.float32(np.abs(w).max() / 127)
        return b.add(
            "DequantizeLinear", [np.round(w / scale).astype(np.int8), scale, np.int8(0)], f"{name}.weight.dequant"
        )

    h = b.add("Relu", [b.add("MatMul", [pair(b.x, "x"), weight(W1, "fc1")], "fc1")], "relu")
    return b.save(path, {b.add("MatMul", [pair(h, "h"), weight(W2, "fc2")], "fc2"): "y"})


@pytest.fixture
def reference(tmp_path):
    return float_model(tmp_path / "float.onnx")


@pytest.fixture
def data(reference):
    return open_data(X, input_specs(read_model(reference)), batch_size=16)


def expected(x=X, w2=W2):
    return np.maximum(x @ W1, 0) @ w2


def test_a_model_equals_itself(reference, data):
    report = compare(reference, [reference], data)
    assert (report.batches, report.samples) == (3, 40)
    output = report.candidates[0].outputs[0]
    assert (output.name, output.error.exact, output.agreement) == ("y", True, 1.0)
    assert json.dumps(report.to_dict(), allow_nan=False)


def test_errors_are_those_of_the_outputs(reference, data, tmp_path):
    other = float_model(tmp_path / "other.onnx", w2=-W2)
    halved = float_model(tmp_path / "halved.onnx", w2=W2 / 2)
    report = compare(reference, [other, halved], data)
    first, second = (candidate.outputs[0] for candidate in report.candidates)
    assert first.error.cosine == pytest.approx(-1)
    assert second.error.cosine == pytest.approx(1)
    assert second.error.sqnr_db == pytest.approx(20 * np.log10(2), abs=1e-4)
    assert second.error.max_abs_error == pytest.approx(np.abs(expected()).max() / 2, rel=1e-5)
    same = (expected().argmax(1) == (-expected()).argmax(1)).mean()
    assert first.agreement == same < 1
    assert second.agreement == 1


def test_labels_give_top1_and_top5(reference, data, tmp_path):
    labels = expected().argmax(1)
    labels[:10] = (labels[:10] + 1) % 3
    other = float_model(tmp_path / "other.onnx", w2=-W2)
    report = compare(reference, [reference, other], data, labels=labels)
    assert report.accuracy.top1 == report.candidates[0].accuracy.top1 == 0.75
    assert report.accuracy.samples == 40
    assert report.accuracy.top5 == 1
    assert report.candidates[1].accuracy.top1 == ((-expected()).argmax(1) == labels).mean()


def test_bad_labels(reference, data):
    with pytest.raises(DataError, match="3 labels for 40 samples"):
        compare(reference, [reference], data, labels=np.zeros(3, np.int64))
    with pytest.raises(DataError, match="50 labels for 40 samples"):
        compare(reference, [reference], data, labels=np.zeros(50, np.int64))
    with pytest.raises(DataError, match=r"label is 3, but the output has 3 classes \(0 to 2\)"):
        compare(reference, [reference], data, labels=np.full(40, 3))
    with pytest.raises(DataError, match="label is -1"):
        compare(reference, [reference], data, labels=np.full(40, -1))


def test_labels_without_a_class_output(tmp_path):
    b = Builder(shape=("N", 4, 2))
    path = b.save(tmp_path / "m.onnx", {b.add("Relu", [b.x], "relu"): "y"})
    data = open_data(np.ones((2, 4, 2), np.float32), input_specs(read_model(path)))
    report = compare(path, [path], data)
    assert report.candidates[0].outputs[0].agreement is None
    with pytest.raises(DataError, match="no output has the shape"):
        compare(path, [path], data, labels=np.zeros(2, np.int64))


def test_further_metrics_are_means_over_batches(reference, data, tmp_path):
    other = float_model(tmp_path / "other.onnx", w2=W2 / 2)
    report = compare(reference, [other], data, metrics={"ratio": lambda x, y: float(y.sum() / x.sum())})
    assert report.candidates[0].outputs[0].to_dict()["ratio"] == pytest.approx(0.5)


@pytest.mark.parametrize("make", [fake_quant_model, qdq_model])
def test_layers_of_quantized_models(reference, data, tmp_path, make):
    quantized = make(tmp_path / "quantized.onnx")
    report = compare(reference, [quantized], data, layers=True)
    layers = report.candidates[0].layers
    assert {layer.name for layer in layers} == {"fc1", "fc2"}
    assert {layer.op_type for layer in layers} == {"MatMul"}
    assert report.candidates[0].unmatched == []
    assert all(20 < layer.error.sqnr_db < 60 for layer in layers)
    assert layers[0].error.sqnr_db <= layers[1].error.sqnr_db
    last = next(layer for layer in layers if layer.name == "fc2")
    assert last.error.sqnr_db == pytest.approx(report.candidates[0].outputs[0].error.sqnr_db, abs=0.2)


def test_the_layer_to_blame_comes_first(reference, data, tmp_path):
    layers, _ = compare_layers(reference, fake_quant_model(tmp_path / "bad.onnx", noise=20), data)
    assert [layer.name for layer in layers] == ["fc2", "fc1"]
    assert layers[0].error.sqnr_db < 10 < layers[1].error.sqnr_db


def test_layers_the_reference_lacks_are_listed(data, tmp_path):
    b = Builder()
    other = b.save(tmp_path / "o.onnx", {b.add("MatMul", [b.add("MatMul", [b.x, W1], "fc1"), W2], "second"): "y"})
    layers, unmatched = compare_layers(other, fake_quant_model(tmp_path / "q.onnx"), data)
    assert [layer.name for layer in layers] == ["fc1"]
    assert unmatched == ["fc2"]


def test_batchnorm_is_folded_on_the_float_side(tmp_path):
    weight = RNG.normal(size=(5, 3, 1, 1)).astype(np.float32)
    scale, shift = np.float32([1, 2, 3, 4, 5]), np.float32([1, -1, 0, 2, 3])
    b = Builder(shape=("N", 3, 4, 4))
    conv = b.add("Conv", [b.x, weight], "conv")
    bn = b.add(
        "BatchNormalization", [conv, scale, shift, np.zeros(5, np.float32), np.ones(5, np.float32)], "bn", epsilon=0.0
    )
    reference = b.save(tmp_path / "float.onnx", {bn: "y"})
    q = Builder(shape=("N", 3, 4, 4))
    conv = q.add("Conv", [q.x, weight * scale.reshape(-1, 1, 1, 1) * 100, shift * 100], "conv")
    candidate = q.save(tmp_path / "q.onnx", {q.add("Mul", [conv, np.float32(0.01)], "conv.fakedequant.mul"): "y"})
    x = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)
    layers, _ = compare_layers(reference, candidate, open_data(x, input_specs(read_model(reference))))
    assert layers[0].error.sqnr_db > 100


def test_deploy_models_run(data, tmp_path):
    """The reference is the same layer on integers, in float."""
    weights = RNG.integers(-128, 128, (4, 3)).astype(np.int8)
    b = Builder()
    quant = b.add("AscendQuant", [b.x], "fc1.quant", scale=20.0, offset=3.0, dst_type="INT8")
    packed = np.float32([0.01]).view(np.uint32).astype(np.uint64)
    product = b.add("MatMul", [quant, weights], "fc1")
    product.type = ir.TensorType(ir.DataType.INT32)
    deploy = b.save(tmp_path / "deploy.onnx", {b.add("AscendDequant", [product, packed], "fc1.dequant", dtype=0): "y"})
    b = Builder()
    rounded = b.add("Round", [b.add("Mul", [b.x, np.float32(20)], "mul")], "round")
    fc = b.add(
        "MatMul", [b.add("Clip", [rounded, np.float32(-131), np.float32(124)], "clip"), np.float32(weights)], "fc1"
    )
    simulation = b.save(tmp_path / "float.onnx", {b.add("Mul", [fc, np.float32(0.01)], "scale"): "y"})
    report = compare(simulation, [deploy], data, layers=True)
    assert report.candidates[0].outputs[0].error.max_abs_error == 0
    assert [layer.name for layer in report.candidates[0].layers] == ["fc1"]


def test_models_that_do_not_belong_together(reference, data, tmp_path):
    with pytest.raises(ModelError, match=r"outputs z, but .* has y"):
        compare(reference, [float_model(tmp_path / "o.onnx", output="z")], data)
    with pytest.raises(ModelError, match="does not exist"):
        compare(reference, [tmp_path / "gone.onnx"], data)
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"cannot load .*junk\.onnx"):
        compare(reference, [tmp_path / "junk.onnx"], data)
    wide = float_model(tmp_path / "wide.onnx", w2=RNG.normal(size=(6, 5)).astype(np.float32))
    with pytest.raises(ModelError, match=r"shapes \[16, 3\] and \[16, 5\]"):
        compare(reference, [wide], data)


def test_progress_events(reference, data, tmp_path):
    events = []
    compare(reference, [fake_quant_model(tmp_path / "q.onnx")], data, layers=True, progress=events.append)
    assert [(e.stage, e.done, e.total) for e in events[:3]] == [("compare", i, 3) for i in (1, 2, 3)]
    assert [(e.stage, e.done) for e in events[3:]] == [("layers of q.onnx", i) for i in (1, 2, 3)]


# -- labels ----------------------------------------------------------------------------------------------------------


class Named:
    batch_names = [["a.jpg", "sub/b.jpg"], ["c.jpg"]]  # noqa: RUF012


def test_labels_from_csv_follow_the_data(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,class_index,name\nc.jpg,3,cat\nb.jpg,2,dog\na.jpg,1,cow\nz.jpg,9,yak\n")
    assert read_labels(path, Named).tolist() == [1, 2, 3]
    path.write_text("file,class_index\nsub/b.jpg,5\nb.jpg,2\na.jpg,1\nc.jpg,1\n")
    assert read_labels(path, Named).tolist() == [1, 5, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class_index\na.jpg,1\n", "no line for sample 'sub/b.jpg'"),
        ("name,class_index\na.jpg,1\n", "line 2: no file and integer class_index"),
        ("file,class_index\na.jpg,cat\n", "line 2: .*'a.jpg,cat'"),
        ("file,class_index\na.jpg\n", "line 2"),
    ],
)
def test_bad_label_files(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_labels(path, Named)
    assert caught.value.hint


def test_labels_from_npy(tmp_path):
    np.save(tmp_path / "l.npy", np.array([4, 5, 6], np.int32))
    assert read_labels(tmp_path / "l.npy", Named).tolist() == [4, 5, 6]
    np.save(tmp_path / "l.npy", np.array([4.0, 5, 6]))
    with pytest.raises(DataError, match="expected one integer per sample"):
        read_labels(tmp_path / "l.npy", Named)
    with pytest.raises(DataError, match=r"neither \.csv nor \.npy"):
        read_labels(tmp_path / "l.txt", Named)
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path / "gone.csv", Named)
