"""config, prepare, calibrate, export: AMCT's steps one by one give what quantize gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ort_quant_plugin.record import Record


@pytest.fixture
def prepared(ort_quant, digits, tmp_path):
    ort_quant("config", digits.model, "-o", tmp_path / "c.json", "--batch-num", 4)
    ort_quant(
        "prepare", digits.model, "-c", tmp_path / "c.json", "-o", tmp_path / "m.onnx", "--record", tmp_path / "r.txt"
    )
    return tmp_path


def test_the_steps_give_the_same_record_and_models(ort_quant, digits, prepared):
    result = ort_quant("calibrate", prepared / "m.onnx", "-d", digits.calibration, "--batch-size", 25)
    assert "Calibrated on 4 batches" in result.out
    assert result.err.splitlines()[-1] == "calibrate: batch 4/4"
    ort_quant("export", prepared / "m.onnx", "--record", prepared / "r.txt", "-o", prepared / "out/d")
    assert Record.read(prepared / "r.txt") == Record.read(digits.record)
    for name in ("d_deploy_model.onnx", "d_fake_quant_model.onnx"):
        assert (prepared / "out" / name).stat().st_size == (Path(digits.record).parent / name).stat().st_size


def test_config_says_what_it_wrote(ort_quant, digits, tmp_path):
    result = ort_quant("config", digits.model, "-o", tmp_path / "c.json", "--skip-layer", "stem_conv", "--symmetric")
    assert "8 layers will be quantized" in result.out
    assert str(tmp_path / "c.json") in result.out
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["activation_offset"] is False
    assert written["stem_conv"]["quant_enable"] is False
    again = ort_quant("config", digits.model, "-o", tmp_path / "c.json", code=2)
    assert "--force" in again.err
    (tmp_path / "s.cfg").write_text("batch_num: 3\nskip_layers: 'head_conv'\n")
    document = ort_quant(
        *("config", digits.model, "-o", tmp_path / "c.json", "-c", tmp_path / "s.cfg", "--force", "--json"),
        *("--updated-model", tmp_path / "named.onnx"),
    ).document
    assert document["schema"] == "ort-quant/config/1"
    assert document["outputs"] == {"config": str(tmp_path / "c.json"), "model": str(tmp_path / "named.onnx")}
    assert json.loads((tmp_path / "c.json").read_text())["batch_num"] == 3


@pytest.mark.parametrize("extra", [["--symmetric"], ["--batch-num", 2], ["--skip-layer", "stem_conv"]])
def test_config_refuses_what_a_cfg_would_override(ort_quant, digits, tmp_path, extra):
    (tmp_path / "s.cfg").write_text("batch_num: 3\n")
    err = ort_quant("config", digits.model, "-o", tmp_path / "c.json", "-c", tmp_path / "s.cfg", *extra, code=2).err
    assert "has no effect" in err
    assert not (tmp_path / "c.json").exists()


def test_prepare_without_config_quantizes_everything(ort_quant, digits, tmp_path):
    out = ort_quant("prepare", digits.model, "-o", tmp_path / "m.onnx", "--record", tmp_path / "r.txt").out
    assert str(tmp_path / "m.onnx") in out
    assert 'key: "classifier"' in (tmp_path / "r.txt").read_text()
    err = ort_quant("prepare", digits.model, "-o", tmp_path / "n.onnx", "--record", tmp_path / "r.txt", code=2).err
    assert "r.txt" in err
    assert not (tmp_path / "n.onnx").exists()


def test_calibrate_refuses_too_little_data_and_other_models(ort_quant, digits, prepared):
    err = ort_quant("calibrate", prepared / "m.onnx", "-d", digits.calibration, "--batch-size", 50, code=2).err
    assert "2 batches" in err
    assert "calibration nodes" in ort_quant("calibrate", digits.model, "-d", digits.calibration, code=2).err


def test_export_refuses_bad_records(ort_quant, digits, prepared, files_before_and_after):
    files = files_before_and_after()
    args = ("export", prepared / "m.onnx", "-o", prepared / "out/d", "--record")
    ort_quant(*args, prepared / "gone.txt", code=2)
    ort_quant(*args, prepared / "r.txt", code=2)  # never calibrated
    assert files.unchanged()
    text = Path(digits.record).read_text()
    for name, content in {"empty": "", "junk": "record { key", "other": text.replace("stem_conv", "another")}.items():
        path = prepared / f"{name}.txt"
        path.write_text(content)
        ort_quant(*args, path, code=2)
    assert not (prepared / "out").exists()


def test_export_refuses_existing_output(ort_quant, digits, prepared):
    (prepared / "d_quant.json").write_text("precious")
    err = ort_quant("export", prepared / "m.onnx", "-o", prepared / "d", "--record", digits.record, code=2).err
    assert "d_quant.json" in err
    assert (prepared / "d_quant.json").read_text() == "precious"
