"""calibrate --method … --save-sketches, ranges, and quantize with several methods."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.record import Record


@pytest.fixture(scope="module")
def calibrated(ort_quant, digits, tmp_path_factory):
    """A folder with a calibration model and saved sketches, records of three methods."""
    folder = tmp_path_factory.mktemp("calibrated")
    ort_quant("prepare", digits.model, "-o", folder / "m.onnx", "--record", folder / "r.txt", "--batch-num", 4)
    result = ort_quant(
        *("calibrate", folder / "m.onnx", "-d", digits.calibration, "--batch-size", 25),
        *("--method", "ifmr,kld, mse", "--save-sketches", "--json"),
    )
    return folder, result.document


def test_calibrate_writes_a_record_per_method_and_the_sketches(calibrated):
    folder, document = calibrated
    assert document["schema"] == "ort-quant/calibrate/1"
    assert document["records"] == {method: str(folder / f"r_{method}.txt") for method in ("ifmr", "kld", "mse")}
    assert document["sketches"] == str(folder / "r.sketches")
    scales = {
        method: [entry.scale_d for entry in Record.read(path).values()] for method, path in document["records"].items()
    }
    assert scales["ifmr"] != scales["kld"] != scales["mse"]
    assert Record.read(folder / "r.txt")["stem_conv"].scale_d is None


def test_the_second_call_needs_no_inference(ort_quant, digits, calibrated):
    folder, _ = calibrated
    out = ort_quant(
        *("calibrate", folder / "m.onnx", "-d", digits.calibration, "--batch-size", 25, "--save-sketches"),
        *("--method", "minmax"),
    ).out
    assert "Calibrated on 4 batches (4 of them by an earlier run)" in out
    assert str(folder / "r.sketches") in out
    assert Record.read(folder / "r.txt")["stem_conv"].calibrated


def test_ranges_shows_every_method_of_every_tensor(ort_quant, calibrated):
    folder, _ = calibrated
    document = ort_quant("ranges", folder / "r.sketches", "--json").document
    assert document["complete"] is True
    assert document["batches"] == 4
    names = [method.name for method in BUILTIN_METHODS]
    for tensor in document["tensors"]:
        assert [found["method"] for found in tensor["ranges"]] == names
        for found in tensor["ranges"]:
            assert found["reason"] is None
            assert found["low"] <= 0 <= found["high"]
            assert found["high"] - found["low"] == pytest.approx(255 * found["scale"], rel=1e-6)
            assert 0 <= found["clipped"] <= 1
            assert found["sqnr_db"] > 0
        minmax = next(found for found in tensor["ranges"] if found["method"] == "minmax")
        assert minmax["clipped"] == pytest.approx(0, abs=1e-3)
    assert len(document["tensors"]) > 5


def test_ranges_as_a_table(ort_quant, calibrated):
    folder, _ = calibrated
    out = ort_quant("ranges", folder / "r.sketches", "--method", "ifmr,mse", "--tensor", "stem_conv").out
    assert "1 tensor, 4 batches" in out
    assert "(stem_conv)" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("ifmr", "mse", "kld"))] == ["ifmr", "mse"]
    assert "SQNR dB" in out


@pytest.mark.parametrize("bits", [4, 8])
def test_ranges_on_other_grids(ort_quant, calibrated, bits):
    folder, _ = calibrated
    document = ort_quant(
        *("ranges", folder / "r.sketches", "--method", "minmax", "--bits", bits, "--symmetric", "--strict-symmetric"),
        "--json",
    ).document
    for tensor in document["tensors"]:
        (found,) = tensor["ranges"]
        assert found["offset"] == 0
        magnitude = max(abs(tensor["minimum"]), abs(tensor["maximum"]))
        assert found["scale"] == pytest.approx(magnitude / (2 ** (bits - 1) - 1), rel=1e-6)


def test_plots(ort_quant, calibrated, tmp_path):
    folder, _ = calibrated
    document = ort_quant("ranges", folder / "r.sketches", "--plot", tmp_path / "plots", "--json").document
    files = [Path(path) for path in document["plots"].values()]
    assert sorted(files) == sorted((tmp_path / "plots").iterdir())
    assert len(files) == len(document["tensors"])
    with Image.open(files[0]) as image:
        assert image.width > 600
        assert len(np.unique(np.asarray(image.convert("L")))) > 20  # something is drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.sketches"], "missing.sketches"),
        (["{r}", "--method", "guess"], "no calibration method 'guess'"),
        (["{r}", "--tensor", "nowhere"], "no tensor or layer 'nowhere'"),
        (["{r}", "--strict-symmetric"], "need --symmetric"),
        (["{m}"], "m.onnx"),
    ],
)
def test_bad_arguments(ort_quant, calibrated, arguments, message):
    folder, _ = calibrated
    filled = [argument.format(r=folder / "r.sketches", m=folder / "m.onnx") for argument in arguments]
    assert message in ort_quant("ranges", *filled, code=2).err


def test_quantize_with_several_methods(ort_quant, digits, tmp_path):
    result = ort_quant(
        *("quantize", digits.model, "-d", digits.calibration, "--batch-size", 25, "-o", tmp_path / "q"),
        *("--method", "minmax,kld", "--score", "snr", "--search-samples", 2, "--sketches", tmp_path / "s.sketches"),
    )
    assert "search: method 2/2" in result.err
    assert "chosen" in result.out
    lines = [line.split() for line in result.out.splitlines() if line.startswith(("minmax", "kld"))]
    assert {line[0] for line in lines} == {"minmax", "kld"}
    assert (tmp_path / "s.sketches").exists()
    document = ort_quant("ranges", tmp_path / "s.sketches", "--method", "kld", "--json").document
    assert json.dumps(document)


def test_workers_with_exact_storage(ort_quant, digits, tmp_path):
    err = ort_quant(
        *("quantize", digits.model, "-d", digits.calibration, "--batch-size", 25, "-o", tmp_path / "q"),
        *("--storage", "exact", "--workers", 2),
        code=2,
    ).err
    assert "one process" in err
    assert not list(tmp_path.iterdir())


def test_evaluator_refuses_what_it_cannot_do(ort_quant, digits, tmp_path):
    (tmp_path / "e.py").write_text("class E:\n    def calibration(self, model): ...\ne = E()\n")
    for option in (["--workers", 2], ["--score", "snr"], ["--sketches", tmp_path / "x"]):
        err = ort_quant(
            "quantize", digits.model, "--evaluator", tmp_path / "e.py", "-o", tmp_path / "q", *option, code=2
        ).err
        assert "needs --data" in err
