"""quantize: the chain from the command line, and every bad input refused whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import PIL.Image
import pytest

FILES = ["d_deploy_model.onnx", "d_fake_quant_model.onnx", "d_ort_model.onnx", "d_quant.json", "d_record.txt"]


def test_writes_all_models_and_says_so(digits):
    report = digits.report
    assert report["schema"] == "ort-quant/quantize/1"
    assert sorted(p.name for p in Path(report["record"]).parent.iterdir()) == sorted([*FILES, "d_qdq_model.onnx"])
    assert set(report["outputs"]) == {"fake_quant", "ascend", "ort", "qdq", "info"}
    assert report["batches"] == 4
    status = {layer["name"]: layer["status"] for layer in report["layers"]}
    assert status["stem_conv"] == status["classifier"] == "quantized"
    assert status["residual_add"] == "float"
    assert all(layer["reason"] for layer in report["layers"] if layer["status"] == "float")


def test_output_for_people(ort_quant, digits, tmp_path):
    result = ort_quant("quantize", digits.model, "-d", digits.calibration, "-o", tmp_path / "d", "--batch-num", 3)
    assert "9 layers quantized, 2 stay float (calibrated on 3 batches" in result.out
    assert "only its input tensors can be quantized" in result.out
    for name in FILES:  # the default targets
        assert str(tmp_path / name) in result.out
    assert not (tmp_path / "d_qdq_model.onnx").exists()
    assert "ort: 9 of 9 quantized layers run in int8" in result.err
    assert [line for line in result.err.splitlines() if line.startswith("calibrate")][-1] == "calibrate: batch 3/3"
    quiet = ort_quant(
        "quantize", digits.model, "-d", digits.calibration, "-o", tmp_path / "d", "--batch-num", 3, "--force", "-q"
    )
    assert quiet.err == ""
    verbose = ort_quant(
        "quantize", digits.model, "-d", digits.calibration, "-o", tmp_path / "d", "--batch-num", 3, "--force", "-v"
    )
    assert "stem_conv" in verbose.out
    assert "took in BatchNormalization 'stem_bn'" in verbose.out


def test_json_is_one_document_and_silent(ort_quant, digits, tmp_path):
    result = ort_quant(
        "quantize", digits.model, "-d", digits.calibration, "-o", tmp_path / "d", "--batch-num", 2, "--json", "-q"
    )
    assert json.loads(result.out)["batches"] == 2
    assert result.err == ""


def test_targets_and_form(ort_quant, digits, tmp_path):
    args = ("quantize", digits.model, "-d", digits.calibration, "--batch-num", 2)
    ort_quant(*args, "-o", tmp_path / "a/d", "-t", "qdq")
    assert not (tmp_path / "a/d_fake_quant_model.onnx").exists()
    assert (tmp_path / "a/d_qdq_model.onnx").exists()
    ort_quant(*args, "-o", tmp_path / "b/d", "-t", "fake_quant", "--fake-quant-form", "onnx")
    model = ir.load(tmp_path / "b/d_fake_quant_model.onnx")
    assert {node.domain for node in model.graph} == {""}
    err = ort_quant(*args, "-o", tmp_path / "c/d", "-t", "tpu", code=2).err
    assert "'tpu'" in err
    assert not (tmp_path / "c").exists()


def test_skips_and_symmetric(ort_quant, digits, tmp_path):
    report = ort_quant(
        *("quantize", digits.model, "-d", digits.calibration, "--batch-num", 2, "-o", tmp_path / "d", "--json"),
        *("--skip-layer", "stem_conv", "--skip-layer-type", "Gemm", "--symmetric", "--method", "hfmg"),
    ).document
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["stem_conv"]["status"] == layers["classifier"]["status"] == "float"
    assert layers["head_conv"]["offset_d"] == 0


def test_raw_folders_as_amct(ort_quant, digits, tmp_path):
    folder = tmp_path / "bins"
    folder.mkdir()
    for index, batch in enumerate(np.split(np.load(digits.calibration), 4)):
        batch.tofile(folder / f"{index}.bin")
    report = ort_quant(
        *("quantize", "--model", digits.model, "--save-path", tmp_path / "d", "--data-dir", f"{folder}/"),
        *("--input-shape", "image:25,1,8,8", "--data-types", "float32", "--batch-num", 4, "--json"),
    ).document
    scales = {layer["name"]: layer["scale_d"] for layer in report["layers"]}
    assert scales == {layer["name"]: layer["scale_d"] for layer in digits.report["layers"]}


def test_images_with_preprocessing(ort_quant, digits, tmp_path):
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(np.load(digits.calibration)[:6]):
        PIL.Image.fromarray((image[0] * 255).astype(np.uint8)).save(tmp_path / "photos" / f"{index}.png")
    report = ort_quant(
        *("quantize", digits.model, "-d", tmp_path / "photos", "-o", tmp_path / "d", "--json"),
        *("--channels", "GRAY", "--std", "255", "--resize", "8,8", "--batch-size", 2),
    ).document
    assert report["batches"] == 3


EVALUATOR = """
import numpy as np, onnxruntime as ort, ort_quant_plugin as amct

class Evaluator:
    def calibration(self, modified_model):
        options = amct.session_options(log_severity_level=4)
        session = ort.InferenceSession(modified_model, options)
        for batch in np.split(np.load({data!r}), 4):
            session.run(None, {{"image": batch}})

customize_evaluator = Evaluator()
"""


def test_evaluator(ort_quant, digits, tmp_path):
    (tmp_path / "evaluator.py").write_text(EVALUATOR.format(data=digits.calibration))
    report = ort_quant(
        *("quantize", "--model", digits.model, "--save-path", tmp_path / "d", "--json"),
        *("--evaluator", tmp_path / "evaluator.py", "--batch-num", 4),
    ).document
    scales = {layer["name"]: layer["scale_d"] for layer in report["layers"]}
    assert scales == {layer["name"]: layer["scale_d"] for layer in digits.report["layers"]}
    assert sorted(p.name for p in tmp_path.glob("d_*")) == FILES


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n", "defines 0 objects with a method calibration"),
        ("import nothing_like_it\n", "cannot be imported: ModuleNotFoundError"),
        ("class E:\n    def calibration(self, m): pass\na, b = E(), E()\n", "defines 2 objects"),
        ("class E:\n    def calibration(self, m): 1 / 0\na = E()\n", "failed: ZeroDivisionError"),
        (
            "class E:\n    def calibration(self, m): pass\na = E()\n",
            "stem_conv",
        ),  # ran nothing: no ranges in the record
    ],
)
def test_bad_evaluators(ort_quant, digits, tmp_path, files_before_and_after, code, message):
    (tmp_path / "e.py").write_text(code)
    files = files_before_and_after()
    err = ort_quant("quantize", digits.model, "-o", tmp_path / "d", "--evaluator", tmp_path / "e.py", code=2).err
    assert message in err
    assert {p for p in files.take() if p.suffix == ".onnx"} == set()


def test_missing_evaluator(ort_quant, digits, tmp_path):
    assert (
        "does not exist"
        in ort_quant("quantize", digits.model, "-o", tmp_path / "d", "--evaluator", tmp_path / "gone.py", code=2).err
    )


# -- bad input -------------------------------------------------------------------------------------------------------


def test_existing_output_is_refused_before_any_work(ort_quant, digits, tmp_path, files_before_and_after):
    (tmp_path / "d_ort_model.onnx").write_bytes(b"precious")
    files = files_before_and_after()
    result = ort_quant("quantize", digits.model, "-d", digits.calibration, "-o", tmp_path / "d", code=2)
    assert "d_ort_model.onnx" in result.err
    assert "--force" in result.err
    assert "calibrate" not in result.err
    assert files.unchanged()
    ort_quant(
        "quantize",
        digits.model,
        "-d",
        digits.calibration,
        "-o",
        tmp_path / "d",
        "--force",
        "--batch-num",
        2,
        "-t",
        "ort",
    )
    assert (tmp_path / "d_ort_model.onnx").read_bytes() != b"precious"


def corrupt_photos(tmp_path, digits):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"not an image")
    return {"data": tmp_path / "photos"}


def empty_photos(tmp_path, digits):
    (tmp_path / "photos").mkdir()
    return {"data": tmp_path / "photos"}


def array(make):
    def write(tmp_path, digits):
        np.save(tmp_path / "x.npy", make(np.load(digits.calibration)))
        return {"data": tmp_path / "x.npy"}

    return write


def with_nan(x):
    x = x.copy()
    x[57, 0, 3, 3] = np.nan
    return x


def junk_model(content):
    def write(tmp_path, digits):
        (tmp_path / "m.onnx").write_bytes(content)
        return {"model": tmp_path / "m.onnx"}

    return write


def names(tmp_path, digits):
    np.savez(tmp_path / "x.npz", picture=np.load(digits.calibration))
    return {"data": tmp_path / "x.npz"}


def config(text, suffix=".json"):
    def write(tmp_path, digits):
        (tmp_path / f"c{suffix}").write_text(text)
        return {"extra": ["-c", tmp_path / f"c{suffix}"]}

    return write


def file_in_the_way(tmp_path, digits):
    (tmp_path / "file").write_text("")
    return {"out": tmp_path / "file" / "d"}


BAD = {
    "missing model": (lambda t, d: {"model": t / "gone.onnx"}, "gone.onnx' does not exist"),
    "folder as model": (lambda t, d: {"model": t}, "is not a file"),
    "junk model": (junk_model(b"junk" * 10), "not a readable ONNX model"),
    "empty model": (junk_model(b""), "not a readable ONNX model"),
    "quantized model": (lambda t, d: {"model": d.outputs["fake_quant"]}, "quantiz"),
    "missing data": (lambda t, d: {"data": t / "gone"}, "does not exist"),
    "empty folder": (empty_photos, "holds no images"),
    "corrupt image": (corrupt_photos, "a.png cannot be decoded"),
    "rank": (array(lambda x: x[:, 0]), "rank 3"),
    "dtype": (array(lambda x: (x * 16).astype(np.uint8)), "dtype uint8"),
    "shape": (array(lambda x: x[:, :, :7]), "dimension 2 is 7"),
    "NaN": (array(with_nan), "1 NaN or infinite"),
    "no samples": (array(lambda x: x[:0]), "holds no samples"),
    "input name": (names, "'picture'"),
    "too few batches": (lambda t, d: {"extra": ["--batch-num", 101]}, "101"),
    "unknown layer": (lambda t, d: {"extra": ["--skip-layer", "nope"]}, "nope"),
    "unquantizable layer": (lambda t, d: {"extra": ["--skip-layer", "flatten"]}, "flatten"),
    "repeated layer": (lambda t, d: {"extra": ["--skip-layer", "stem_conv"] * 2}, "stem_conv"),
    "unknown type": (lambda t, d: {"extra": ["--skip-layer-type", "Conv2D"]}, "Conv2D"),
    "all skipped": (
        lambda t, d: {"extra": [a for k in ("Conv", "Gemm", "AveragePool") for a in ("--skip-layer-type", k)]},
        "quantize",
    ),
    "unknown method": (lambda t, d: {"extra": ["--method", "guess"]}, "guess"),
    "missing config": (lambda t, d: {"extra": ["-c", t / "gone.json"]}, "gone.json"),
    "config is not JSON": (config("{"), "c.json"),
    "unknown config key": (config('{"version":1,"velocity":3}'), "velocity"),
    "config out of range": (config('{"version":1,"batch_num":0}'), "batch_num"),
    "simple config": (config("batch_nmu: 3", ".cfg"), "batch_nmu"),
    "split without list": (lambda t, d: {"extra": ["--split", "calibration"]}, "needs a .csv list"),
    "bad mean": (lambda t, d: {"extra": ["--mean", "1,2"]}, "mean has 2 values"),
    "unwritable output": (file_in_the_way, "file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_nothing_behind(ort_quant, digits, tmp_path, files_before_and_after, case):
    make, message = BAD[case]
    made = {"model": digits.model, "data": digits.calibration, "out": tmp_path / "out" / "d", "extra": []}
    made |= make(tmp_path, digits)
    files = files_before_and_after()
    err = ort_quant("quantize", made["model"], "-d", made["data"], "-o", made["out"], *made["extra"], code=2).err
    assert message in err
    left = {path for path in files.take() if path not in files.before and path.name != "out"}
    assert left == set()
