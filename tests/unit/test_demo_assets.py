"""The shipped demo files are what their README says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin import demo
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train_digits"


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return ir.load(demo.demo_model_path())


def _logits(images: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(demo.demo_model_path()), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def test_float_accuracy_on_the_evaluation_digits():
    """99.3 % as the README says; one image of 450 may fall either way with another runtime's rounding."""
    data = demo.load_digits()
    correct = int((_logits(data.evaluation).argmax(1) == data.labels).sum())
    assert 446 <= correct <= 448


def test_batch_is_dynamic():
    data = demo.load_digits()
    alone = np.concatenate([_logits(data.evaluation[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(alone, _logits(data.evaluation[:7]), atol=1e-5)


def test_digits_are_as_documented():
    data = demo.load_digits()
    assert data.calibration.shape == (100, 1, 8, 8)
    assert data.evaluation.shape == (450, 1, 8, 8)
    assert (data.calibration.dtype, data.evaluation.dtype, data.labels.dtype) == (np.float32, np.float32, np.int64)
    assert data.evaluation.min() == 0.0
    assert data.evaluation.max() == 1.0
    assert np.bincount(data.labels).tolist() == [45] * 10


def test_no_evaluation_digit_is_a_calibration_digit():
    data = demo.load_digits()
    evaluation = {image.tobytes() for image in data.evaluation}
    assert len(evaluation) == 450
    assert not evaluation & {image.tobytes() for image in data.calibration}


def test_model_has_every_kind_of_layer(model: ir.Model):
    types = {node.op_type for node in model.graph}
    expected = {
        "Conv",
        "BatchNormalization",
        "Relu",
        "Clip",
        "Add",
        "MaxPool",
        "AveragePool",
        "Flatten",
        "Gemm",
    }
    assert types == expected
    convs = {node.name: node for node in model.graph if node.op_type == "Conv"}
    assert convs["depthwise_conv"].attributes["group"].as_int() == 16
    assert list(convs["down_conv"].attributes["strides"].as_ints()) == [2, 2]
    assert [name for name, node in convs.items() if len(node.inputs) == 3] == ["head_conv"]


def test_model_interface_and_names(model: ir.Model):
    assert model.opset_imports == {"": 13}
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    assert names[:3] == ["stem_conv", "stem_bn", "stem_relu"]
    (image,), (logits,) = model.graph.inputs, model.graph.outputs
    assert (image.name, str(image.shape)) == ("image", "[batch,1,8,8]")
    assert (logits.name, str(logits.shape)) == ("logits", "[batch,10]")


def test_files_are_small():
    assert demo.demo_model_path().stat().st_size < 200_000
    assert demo.demo_model_path().with_name("digits.npz").stat().st_size < 20_000


def test_missing_asset_says_so():
    with pytest.raises(DataError, match=r"demo file 'nothing\.onnx' is missing") as caught:
        demo._asset("nothing.onnx")
    assert caught.value.hint == "Reinstall ort-quant-plugin."


@pytest.fixture
def split_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("sklearn", reason="scikit-learn has the original digits")
    spec = importlib.util.spec_from_file_location("train_digits_data", EXAMPLE / "data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_training_never_saw_the_evaluation_digits(split_module: ModuleType):
    """The script's split is disjoint, and the shipped images are the ones that split names."""
    split = split_module.load_split()
    assert not set(split.training) & set(split.evaluation)
    assert set(split.calibration) <= set(split.training)
    assert sorted([*split.training, *split.evaluation]) == list(range(1797))
    with np.load(demo.demo_model_path().with_name("digits.npz")) as stored:
        np.testing.assert_array_equal(stored["evaluation_index"], split.evaluation)
        np.testing.assert_array_equal(stored["calibration_index"], split.calibration)
        np.testing.assert_array_equal(stored["evaluation"], split.images[split.evaluation])
        np.testing.assert_array_equal(stored["calibration"], split.images[split.calibration])
        np.testing.assert_array_equal(stored["labels"], split.labels[split.evaluation])
