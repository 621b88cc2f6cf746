"""Image classifiers: what stands around the model, and which models it fits."""

from __future__ import annotations

import shutil

import pytest

from ort_quant_plugin.calibration.images import ImagePreprocess
from ort_quant_plugin.errors import ConfigError, DataError, OutputError
from ort_quant_plugin.triton.config import parse_config
from ort_quant_plugin.triton.ensemble import Classifier, write_ensemble
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import template_path
from ort_quant_plugin.triton.validate import validate_repository

GRAY = ImagePreprocess(mean=(0.0,), std=(16.5,), resize=(8, 8), channels="GRAY")
DIGITS = "".join(f"digit {n}\n" for n in range(10))


@pytest.fixture
def write(digits, tmp_path):
    """Write an ensemble of the digits network."""

    def _write(form="float", preprocess=GRAY, *, force=False, model=None, max_batch=None, **around):
        options = RepositoryOptions("net", max_batch=max_batch)
        return write_ensemble(
            model or digits[form], tmp_path / "models", options, Classifier(preprocess, **around), force=force
        )

    return _write


def test_what_is_written(write, tmp_path, tree, errors_in):
    (tmp_path / "names.txt").write_text(DIGITS)
    written = write("ort", labels=tmp_path / "names.txt", top_k=3, softmax=True)
    files = tree(tmp_path / "models")
    assert set(files) == {
        "net/config.pbtxt",
        "net/1/model.onnx",
        "net/libort_quant_ops.so",
        "net_preprocess/config.pbtxt",
        "net_preprocess/1/model.py",
        "net_postprocess/config.pbtxt",
        "net_postprocess/1/model.py",
        "net_postprocess/labels.txt",
        "net_ensemble/config.pbtxt",
        "net_ensemble/1/.keep",
    }
    assert files["net_preprocess/1/model.py"] == template_path("preprocess").read_bytes()
    assert written.name == "net_ensemble"
    before = parse_config(tmp_path / "models/net_preprocess/config.pbtxt")
    assert {key: value.string_value for key, value in before.parameters.items()} == {
        "mean": "0",
        "std": "16.5",
        "resize": "8,8",
        "layout": "NCHW",
        "channels": "GRAY",
    }
    whole = parse_config(tmp_path / "models/net_ensemble/config.pbtxt")
    assert [(entry.name, list(entry.dims)) for entry in whole.output] == [
        ("label", [3]),
        ("class_id", [3]),
        ("score", [3]),
    ]
    assert whole.max_batch_size == before.max_batch_size == 8
    assert whole.metric_tags["precision"] == "int8-ort"
    assert errors_in(validate_repository(tmp_path / "models")) == []


@pytest.mark.parametrize("form", ["float", "fake_quant", "deploy", "ort", "qdq"])
def test_every_form(write, tmp_path, form, errors_in):
    write(form)
    findings = validate_repository(tmp_path / "models")
    assert errors_in(findings) == errors_in(findings, "warning") == []


def test_a_model_without_batch_axis(save, write, tmp_path, errors_in):
    model = save(
        """<ir_version: 8, opset_import: ["": 17]>
g (float[1,8,8,3] x) => (float[1,192] y) { y = Flatten(x) }"""
    )
    write(model=model, preprocess=ImagePreprocess(crop=8, layout="NHWC"))
    whole = parse_config(tmp_path / "models/net_ensemble/config.pbtxt")
    assert (whole.max_batch_size, list(whole.input[0].dims), list(whole.output[0].dims)) == (0, [1], [1, 1])
    assert errors_in(validate_repository(tmp_path / "models")) == []


@pytest.mark.parametrize(
    ("around", "message"),
    [
        (
            {"preprocess": ImagePreprocess(crop=8)},
            r"gives \[3, 8, 8\] \(NCHW, RGB\), but input 'image' takes \[1, 8, 8\]",
        ),
        ({"preprocess": ImagePreprocess(crop=7, channels="GRAY")}, r"gives \[1, 7, 7\]"),
        ({"preprocess": ImagePreprocess(crop=8, channels="GRAY", layout="NHWC")}, r"gives \[8, 8, 1\]"),
        ({"top_k": 11}, "top_k is 11, but the model has 10 classes"),
        ({"top_k": 0}, "top_k is 0"),
    ],
)
def test_refused(write, tmp_path, around, message):
    with pytest.raises(ConfigError, match=message) as caught:
        write(**around)
    assert caught.value.hint
    assert not (tmp_path / "models").exists()


def test_labels_must_match_the_classes(write, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="has 2 lines, but the model has 10 classes"):
        write(labels=tmp_path / "names.txt")
    with pytest.raises(DataError, match="does not exist"):
        write(labels=tmp_path / "none.txt")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (float[N,3,8,8] x, float[N,1] z) => (float[N,192] y) { y = Flatten(x) }", "2 inputs and 1 outputs"),
        ("g (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }", "expected one score for each class"),
        ("g (int32[N,3,8,8] x) => (int32[N,192] y) { y = Flatten(x) }", "Images cannot feed input 'x' of TYPE_INT32"),
        ("g (float[N,192] x) => (float[N,192] y) { y = Relu(x) }", r"takes \[192\]"),
    ],
)
def test_models_that_classify_no_images(save, write, text, message):
    with pytest.raises(ConfigError, match=message):
        write(model=save('<ir_version: 8, opset_import: ["": 17]>' + text), preprocess=ImagePreprocess(crop=8))


def test_bytes_take_no_mean(save, write, tmp_path):
    text = '<ir_version: 8, opset_import: ["": 17]> g (uint8[N,3,8,8] x) => (uint8[N,192] y) { y = Flatten(x) }'
    with pytest.raises(ConfigError, match="TYPE_UINT8 with mean and std"):
        write(model=save(text), preprocess=ImagePreprocess(crop=8, mean=(1.0,)))
    assert write(model=save(text), preprocess=ImagePreprocess(crop=8)).notes == ()


def test_sizes_that_depend_on_the_image_are_said(write):
    (note,) = write(preprocess=ImagePreprocess(channels="GRAY", resize=8)).notes
    assert "Images must have exactly the model's size" in note


def test_existing_ones_are_not_overwritten(write, tmp_path, tree):
    write()
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        write("ort", top_k=2)
    assert tree(tmp_path) == before
    shutil.rmtree(tmp_path / "models/net")  # what stands around is not overwritten either
    with pytest.raises(OutputError, match=r"net_preprocess, .*net_postprocess, .*net_ensemble"):
        write("ort", top_k=2)
    assert not (tmp_path / "models/net").exists()
    write("ort", top_k=2, force=True)
    assert list(parse_config(tmp_path / "models/net_ensemble/config.pbtxt").output[0].dims) == [2]
    assert not [path for path in (tmp_path / "models").iterdir() if path.name.startswith(".")]
