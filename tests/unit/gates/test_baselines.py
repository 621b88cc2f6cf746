"""Baselines: written once, checked ever after, never a silent pass."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from ort_quant_plugin.errors import ConfigError, OutputError
from ort_quant_plugin.gates.baselines import SCHEMA, Baselines, settle
from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.gates.measurement import LayerBlame, Measurement


def gate(baseline="digits", **thresholds):
    settings = {"name": "g", "metric": "top1", "baseline": baseline, **(thresholds or {"max_drop": 0.01})}
    return Gate.from_mapping(settings, where="g", base=Path())


def measured(value=0.9, **further):
    settings = {
        "reference": 0.95, "samples": 100, "data": {"spec": "/there/photos", "sha256": "ab"},
        "models": {"model": {"path": "/there/out/net.onnx", "sha256": "12", "bytes": 5}},
        "environment": {"isa": "avx2"}, "created": "2026-01-01T00:00:00Z", **further,
    }  # fmt: skip
    return Measurement("top1", "share", "own", True, value, **settings)


@pytest.fixture
def baselines(tmp_path):
    return Baselines(tmp_path / "quant_baselines")


@pytest.fixture
def updating(baselines):
    return Baselines(baselines.folder, update=True)


def test_missing_is_written_and_fails(baselines):
    verdict = settle(gate(), measured(), baselines)
    path = baselines.folder / "digits.json"
    assert path.is_file()
    assert not verdict.passed
    assert verdict.reasons == [f"baseline '{path}' did not exist and was written: check and commit it"]


def test_then_it_is_the_base(baselines):
    settle(gate(), measured(0.9), baselines)
    verdict = settle(gate(), measured(0.895), baselines)
    assert verdict.passed
    assert (verdict.base_name, verdict.base) == ("baseline", 0.9)
    assert not settle(gate(), measured(0.88), baselines).passed


def test_a_first_run_shows_missed_limits_too(baselines):
    verdict = settle(gate(min_value=0.99, max_drop=0.01), measured(0.5), baselines)
    assert len(verdict.reasons) == 2
    assert "min_value is 99.00 %" in verdict.reasons[1]


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "top1 is not a number (NaN)"), (-math.inf, "top1 is -∞, the worst there is")]
)
def test_the_worst_there_is_is_no_baseline(baselines, updating, value, text):
    for use in (baselines, updating):
        assert settle(gate(), measured(value), use).reasons == [text]
    assert not baselines.folder.exists()
    settle(gate(), measured(0.9), baselines)
    assert not settle(gate(), measured(value), updating).passed
    assert baselines.read("digits").value == 0.9


def test_none_is_written_of_a_part_of_the_data(baselines):
    partial = Baselines(baselines.folder, partial=True)
    with pytest.raises(ConfigError, match="none is written of a part of the data"):
        settle(gate(), measured(), partial)
    assert not baselines.folder.exists()
    settle(gate(), measured(), baselines)
    assert settle(gate(), measured(), partial).passed


def test_update_rewrites_and_fails(baselines, updating):
    settle(gate(), measured(0.9), baselines)
    verdict = settle(gate(), measured(0.5), updating)
    assert not verdict.passed
    assert "was updated: check and commit it" in verdict.reasons[0]
    assert baselines.read("digits").value == 0.5
    assert settle(gate(), measured(0.5), baselines).passed


def test_update_of_what_has_not_changed_passes(baselines, updating):
    settle(gate(), measured(), baselines)
    path = baselines.path("digits")
    before = path.read_bytes()
    elsewhere = measured(created="2027-01-01T00:00:00Z", seconds=3.0, data={"spec": "photos", "sha256": "ab"})
    assert settle(gate(), elsewhere, updating).passed
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 50},
        {"options": {"k": 5}},
        {"data": {"sha256": "cd"}},
        {"environment": {"isa": "scalar"}},
        {"models": {"model": {"sha256": "34"}}},
        {"value_rows": [[1.0]]},
    ],
)
def test_update_of_anything_that_counts_fails(baselines, updating, change):
    settle(gate(), measured(), baselines)
    assert not settle(gate(), measured(**change), updating).passed


def test_update_mends_a_baseline_of_something_else(baselines, updating):
    settle(gate(), measured(data={"sha256": "old"}), baselines)
    assert "on other data" in settle(gate(), measured(), baselines).reasons[0]
    settle(gate(), measured(), updating)
    assert settle(gate(), measured(), baselines).passed


def test_a_gate_without_baseline_needs_no_folder():
    assert settle(gate(baseline=None, max_drop=0.1), measured(), None).passed


def test_a_baseline_without_folder():
    with pytest.raises(ConfigError, match="Gate 'g' has the baseline 'digits', but no folder"):
        settle(gate(), measured(), None)


def test_nothing_of_the_machine_is_stored(baselines):
    layers = [LayerBlame("conv", "Conv", 3.0, 0.5)]
    text = baselines.write("digits", measured(layers=layers, layers_note="of the sibling")).read_text()
    assert "/there" not in text
    document = json.loads(text)
    assert document["schema"] == SCHEMA
    assert document["name"] == "digits"
    assert document["measurement"]["models"]["model"] == {"path": "net.onnx", "sha256": "12", "bytes": 5}
    assert document["measurement"]["data"]["spec"] == "photos"
    files = {"characters": "/there/chars.txt", "decode": "/there/dec.py:texts", "python": "/there/bin/python"}
    text = baselines.write("digits", measured(options=files)).read_text()
    assert "/there" not in text
    assert settle(gate(), measured(options=files), baselines).passed
    assert settle(gate(), measured(options=files), Baselines(baselines.folder, update=True)).passed
    assert (document["measurement"]["layers"], document["measurement"]["layers_note"]) == ([], None)


def test_what_is_read_is_what_was_written(baselines):
    rows = [[1.0, 0.5], [0.0, 1e-17]]
    found = measured(math.inf, value_rows=rows, reference_rows=rows, models={}, data={"sha256": "ab"})
    baselines.write("digits", found)
    assert baselines.read("digits") == found


def test_the_file_is_for_people(baselines):
    """A thousand hits take a screen, not a thousand lines."""
    text = baselines.write("digits", measured(value_rows=[[1.0]] * 1000)).read_text()
    assert len(text.splitlines()) < 100
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18-int8", "resnet18-int8.json"),
        ("test_gates/top1[int8]", "test_gates/top1[int8].json"),
        ("a::b", "a%3A%3Ab.json"),
        ("50%", "50%25.json"),
        ("..hidden", "..hidden.json"),
        ("a\\b", "a%5Cb.json"),
        ("größe", "gr%C3%B6%C3%9Fe.json"),
        ("nul\0", "nul%00.json"),
    ],
)
def test_names_become_files(baselines, name, file):
    assert baselines.path(name) == baselines.folder / file
    baselines.write(name, measured())
    assert baselines.read(name).value == 0.9


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/../../up", "/etc/passwd", "a//b", "a/", "a/."])
def test_names_that_lead_elsewhere(baselines, name):
    for use in (baselines.path, baselines.read, lambda name: baselines.write(name, measured())):
        with pytest.raises(ConfigError, match="is no name of a baseline"):
            use(name)


def whole(**damage):
    return json.dumps({"schema": SCHEMA, "measurement": measured().to_dict() | damage})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", r"is not JSON \("),
        ("[1]", "has the schema None; expected 'ort-quant/gate-baseline/1'"),
        ('{"schema": "ort-quant/gate-report/1"}', "has the schema 'ort-quant/gate-report/1'"),
        ('{"schema": "ort-quant/gate-baseline/1"}', r"holds no measurement \('measurement'\)"),
        ('{"schema": "ort-quant/gate-baseline/1", "measurement": {"value": "x"}}', "holds no measurement"),
        ('{"schema": "ort-quant/gate-baseline/1", "measurement": 5}', "holds no measurement"),
        ("[" * 100_000, "is not JSON"),
        (whole(value_rows=[[1], [1, 2]]), r"holds no measurement \(its rows have different lengths\)"),
        (whole(environment="x"), r"holds no measurement \(environment is 'x'\)"),
        (whole(data=None), r"holds no measurement \(data is None\)"),
        (whole(models=None), "holds no measurement"),
        (whole(models={"model": None}), "holds no measurement"),
        (whole(samples="many"), "holds no measurement"),
    ],
)
def test_broken_files_are_named(baselines, text, complaint):
    baselines.folder.mkdir()
    path = baselines.folder / "digits.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"Gate baseline '{path}' ") + complaint) as caught:
        settle(gate(), measured(), baselines)
    assert "delete it" in caught.value.hint


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        settle(gate(), measured(), Baselines(tmp_path / "file"))
