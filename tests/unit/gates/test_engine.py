"""Gates from measuring to the verdict."""

from __future__ import annotations

import sys

import pytest

from ort_quant_plugin.gates import Baselines, Evaluator, run_gate, run_gates


def test_an_untouched_model_passes(gate):
    result = run_gate(gate("agreement", min_value=None, max_drop=0.05), Evaluator())
    assert (result.status, result.error) == ("passed", None)
    assert result.verdict.drop <= 0.05
    assert result.measurement.layers == []
    assert result.gate["metric"] == "agreement"


def test_a_damaged_model_fails_and_names_the_layer(gate, damaged):
    result = run_gate(gate("top1", damaged("down_conv"), min_value=None, max_drop=0.01), Evaluator())
    assert result.status == "failed"
    assert result.verdict.drop > 0.01
    assert result.measurement.layers[0].name == "down_conv"


def test_layers_are_not_looked_for_when_not_wanted(gate, damaged):
    result = run_gate(gate("sqnr_db", damaged("down_conv"), min_value=30, layers=False), Evaluator())
    assert (result.status, result.measurement.layers, result.measurement.layers_note) == ("failed", [], None)


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("top1", {"data": "missing.npy"}, "does not exist"),
        ("topp1", {}, "no gate metric 'topp1'"),
        ("top1", {"min_value": None, "max_drop": 0.1, "reference": None}, "max_drop"),
    ],
)
def test_what_cannot_be_judged_is_an_error(gate, metric, settings, message):
    result = run_gate(gate(metric, **settings), Evaluator())
    assert (result.status, result.verdict) == ("error", None)
    assert message in result.error


class WithBug(Evaluator):
    """Measures one metric as a plugin with a bug would."""

    def measure(self, gate, **overrides):
        if gate.metric == "mse":
            raise ZeroDivisionError("division by zero")
        return super().measure(gate, **overrides)

    def evaluation(self, gate, **overrides):
        if gate.metric == "sqnr_db" and sys._getframe(1).f_code.co_name != "measure":
            raise ZeroDivisionError("division by zero")
        return super().evaluation(gate, **overrides)


def test_a_bug_of_a_metric_costs_no_other_gate_its_result(gate, caplog):
    caplog.set_level("DEBUG", "ort_quant_plugin")
    gates = [gate("mse", min_value=None, max_value=1), gate("agreement", min_value=0.5)]
    first, second = run_gates(gates, evaluator=WithBug()).results
    assert (first.status, second.status) == ("error", "passed")
    assert "the metric 'mse' raised ZeroDivisionError: division by zero" in first.error
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_a_bug_while_layers_are_looked_for_costs_no_verdict(gate):
    result = run_gate(gate("sqnr_db", min_value=90), WithBug())
    assert (result.status, result.measurement.layers) == ("failed", [])
    assert result.measurement.layers_note == "looking for them raised ZeroDivisionError: division by zero"


def test_a_missing_baseline_is_written_and_fails(gate, tmp_path):
    baselines = Baselines(tmp_path, update=False)
    wanted = gate("sqnr_db", min_value=None, max_drop=1, baseline="digits")
    first, second = (run_gate(wanted, Evaluator(), baselines) for _ in range(2))
    assert (first.status, second.status) == ("failed", "passed")
    assert first.measurement.layers == [], "no layer is to blame for a file that was not there"
    assert (tmp_path / "digits.json").is_file()


def test_a_missed_limit_is_blamed_even_when_the_baseline_is_written(gate, damaged, tmp_path):
    wanted = gate("sqnr_db", damaged("down_conv"), min_value=30, baseline="digits")
    result = run_gate(wanted, Evaluator(), Baselines(tmp_path, update=False))
    assert len(result.verdict.reasons) == 2
    assert result.measurement.layers[0].name == "down_conv"


def test_overrides_reach_measurement_and_blame(gate, damaged, digits):
    result = run_gate(gate("sqnr_db", min_value=30), Evaluator(), model=damaged("head_conv"))
    assert result.status == "failed"
    assert result.measurement.models["model"]["path"].endswith("damaged.onnx")
    assert result.measurement.layers[0].name == "head_conv"


def test_a_run_reports_every_gate_in_order(gate):
    events, finished = [], []
    gates = [gate("agreement", min_value=0.5), gate("mse", min_value=None, max_value=0.0), gate("sqnr_db", data="no")]
    report = run_gates(gates, progress=events.append, finished=finished.append)
    assert [result.name for result in report.results] == ["agreement", "mse", "sqnr_db"]
    assert [result.status for result in report.results] == ["passed", "failed", "error"]
    assert finished == report.results
    assert [event.done for event in events if event.stage == "gates"] == [1, 2, 3]
    assert report.seconds > 0
    assert report.environment["onnxruntime"]
