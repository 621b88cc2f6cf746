"""Measurements, verdicts and results survive JSON, non-finite numbers included."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ort_quant_plugin.gates.measurement import GateResult, LayerBlame, Measurement, Verdict

GATE = {"name": "g", "metric": "m"}


def through_json(document):
    return json.loads(json.dumps(document, allow_nan=False))


def test_measurement():
    found = Measurement(
        "sqnr_db", "dB", "pair", higher_is_better=True, value=31.5, samples=2, value_rows=[[1.0, 0.25], [2.0, 0.5]],
        layers=[LayerBlame("conv", "Conv", 3.5, 0.4), LayerBlame("fc", "Gemm", None, 0.0)], layers_note="of a sibling",
        details={"elements": 5}, models={"model": {"path": "m.onnx"}}, data={"sha256": "ab"}, options={"output": "y"},
        environment={"isa": "avx2"}, created="2026-01-01T00:00:00Z", seconds=1.5,
    )  # fmt: skip
    assert Measurement.from_dict(through_json(found.to_dict())) == found


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_values(value):
    found = Measurement("sqnr_db", "dB", "pair", True, value, value, value_rows=[[1.0, value]])
    assert Measurement.from_dict(through_json(found.to_dict())) == found


def test_nan():
    found = Measurement("m", "", "pair", True, math.nan, value_rows=[[math.nan]], details={"worst": math.nan})
    back = Measurement.from_dict(through_json(found.to_dict()))
    assert math.isnan(back.value)
    assert math.isnan(back.value_rows[0][0])
    assert back.details == {"worst": "nan"}


def test_numpy_values_become_plain():
    found = Measurement("m", "", "pair", True, np.float32(0.5), np.float64(1), np.int64(3), np.ones((2, 1)))
    document = found.to_dict()
    assert through_json(document) == document
    assert document["value_rows"] == [[1.0], [1.0]]


@pytest.mark.parametrize(
    "damage",
    [
        {"value": "high"}, {"value": None}, {"surprise": 1}, {"layers": [{"name": "conv"}]}, {"layers": [3]},
        {"value_rows": [1, 2]}, {"value_rows": [[1], [1, 2]]}, {"value_rows": 5}, {"kind": "other"}, {"metric": None},
        {"environment": "x"}, {"data": None}, {"models": {"model": 3}}, {"samples": 1.5}, {"higher_is_better": 1},
        {"layers": [{"name": "a", "op_type": "Conv", "sqnr_db": "loud", "added_noise": 0}]},
    ],
)  # fmt: skip
def test_no_measurement(damage):
    document = Measurement("m", "", "pair", True, 1.0).to_dict() | damage
    with pytest.raises((KeyError, TypeError, ValueError)):
        Measurement.from_dict(document)


def test_verdict():
    found = Verdict(
        passed=False, reasons=["bad"], base=math.inf, base_name="baseline", drop=math.inf, budget=0.5,
        interval=(0.25, math.inf), interval_of="drop", p_value=0.01, within_chance=True, notes=["elsewhere"],
    )  # fmt: skip
    assert Verdict.from_dict(through_json(found.to_dict())) == found
    assert Verdict.from_dict(through_json(Verdict(passed=True).to_dict())) == Verdict(passed=True)


def test_result():
    found = GateResult(
        {"name": "g", "metric": "m"}, "failed", Measurement("m", "", "pair", True, 1.0), Verdict(passed=False),
        rerun="pytest x", where="tests/test_gates.py:3",
    )  # fmt: skip
    assert GateResult.from_dict(through_json(found.to_dict())) == found
    assert found.name == "g"
    assert GateResult.from_dict(GateResult(GATE, "not run", error="deselected").to_dict()).measurement is None


@pytest.mark.parametrize(
    "damage",
    [
        {"gate": {"metric": "m"}}, {"gate": {"name": "g"}}, {"gate": {**GATE, "max_drop": "x"}}, {"gate": 3},
        {"status": "fine"}, {"measurement": 5}, {"verdict": [1]}, {"verdict": {"passed": True, "drop": "x"}},
        {"verdict": {"passed": True, "reasons": None}}, {"verdict": {"passed": True, "interval": [1]}}, {"error": 5},
        {"where": None}, {"verdict": {}},
    ],
)  # fmt: skip
def test_no_result(damage):
    document = GateResult(GATE, "passed").to_dict() | damage
    with pytest.raises((KeyError, TypeError, ValueError)):
        GateResult.from_dict(document)


def test_what_json_has_not_becomes_text():
    found = Measurement("m", "", "pair", True, 1.0, details={"file": Path("a.npy")})
    assert through_json(found.to_dict())["details"] == {"file": "a.npy"}
