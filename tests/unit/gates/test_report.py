"""Reports: to a file and back, and judged again without inference."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.baselines import Baselines, settle
from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.gates.judge import judge
from ort_quant_plugin.gates.measurement import GateResult, Measurement
from ort_quant_plugin.gates.report import SCHEMA, GateReport, read_report, recheck, report_format, write_report


def gate(name="g", **settings):
    settings = {"name": name, "metric": "top1", **settings}
    return Gate.from_mapping(settings, where="g", base=Path())


def measured(value=0.9, reference=0.95, metric="top1", **further):
    return Measurement(metric, "share", "own", True, value, reference, 100, **further)


def result(found, measurement, verdict=None):
    verdict = verdict or judge(found, measurement)
    return GateResult(found.to_dict(), "passed" if verdict.passed else "failed", measurement, verdict, rerun="pytest x")


@pytest.fixture
def report():
    """5 pp lost of 10 and of 1, an error, and one that did not run."""
    return GateReport(
        [
            result(gate("wide", max_drop=0.1), measured()),
            GateResult(gate("skipped", max_drop=0.1).to_dict(), "not run", error="deselected"),
            result(gate("narrow", max_drop=0.01), measured()),
            GateResult(gate("broken", max_drop=0.1).to_dict(), "error", error="no data"),
            result(gate("tight", max_drop=0.051), measured()),
        ],
        environment={"isa": "avx2"},
        created="2026-01-01T00:00:00Z",
        seconds=1.5,
    )


def statuses(report):
    return {item.name: item.status for item in report.results}


def test_groups(report):
    assert [item.name for item in report.failed] == ["narrow", "broken"]
    assert [item.name for item in report.not_run] == ["skipped"]
    assert [item.name for item in report.passed] == ["wide", "tight"]


def test_worst_first(report):
    assert [item.name for item in report.worst_first] == ["broken", "narrow", "skipped", "tight", "wide"]


def test_to_a_file_and_back(report, tmp_path):
    report.results[0].measurement.value_rows = [[1.0]] * 90 + [[0.0]] * 10
    report.results[2].measurement.details = {"worst": math.inf}
    write_report(tmp_path / "gates.json", report)
    back = read_report(tmp_path / "gates.json")
    assert back.to_dict() == report.to_dict()
    document = json.loads((tmp_path / "gates.json").read_text())
    assert document == report.to_dict()
    assert document["schema"] == SCHEMA
    assert (document["passed"], document["failed"], document["not_run"]) == (2, 2, 1)


def test_empty(tmp_path):
    write_report(tmp_path / "gates.json", GateReport([]))
    assert read_report(tmp_path / "gates.json") == GateReport([])


@pytest.mark.parametrize(("name", "start"), [("g.json", "{"), ("g.md", "<!--"), ("G.HTML", "<!doctype html>")])
def test_the_suffix_says_the_form(report, tmp_path, name, start):
    write_report(tmp_path / name, report)
    assert (tmp_path / name).read_text().startswith(start)


def test_the_judge_again_command_names_the_json_report(report, tmp_path):
    for name in ("g.md", "g.html"):
        write_report(tmp_path / name, report, source="gates.json")
        assert "ort-quant gate recheck gates.json --gate narrow" in (tmp_path / name).read_text()
        write_report(tmp_path / name, report)
        assert "recheck" not in (tmp_path / name).read_text()


@pytest.mark.parametrize("name", ["gates", "gates.txt", "gates.xml"])
def test_other_suffixes(report, tmp_path, name):
    for use in (report_format, lambda path: write_report(path, report)):
        with pytest.raises(ConfigError, match=r"expected one of \.json, \.md, \.html"):
            use(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "does not exist"),
        ("nonsense", "is not JSON"),
        ("{}", "has the schema None"),
        (f'{{"schema": "{SCHEMA}"}}', r"is damaged \(KeyError: 'results'\)"),
        (f'{{"schema": "{SCHEMA}", "results": [1], "environment": {{}}, "created": "", "seconds": 1}}', "is damaged"),
        (f'{{"schema": "{SCHEMA}", "results": [{{"gate": {{"name": "g"}}, "status": "fine"}}]}}', "status is 'fine'"),
        (f'{{"schema": "{SCHEMA}", "results": [{{"gate": {{"metric": "m"}}, "status": "passed"}}]}}', "damaged.*name"),
        (f'{{"schema": "{SCHEMA}", "results": [], "environment": 5, "created": "", "seconds": 1}}', "is damaged"),
    ],
)
def test_what_is_no_report(tmp_path, text, complaint):
    path = tmp_path / "gates.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_report(path)
    assert str(path) in caught.value.message
    assert "--report" in caught.value.hint


def test_new_thresholds(report):
    looser = recheck(report, thresholds={"max_drop": 0.2, "min_value": None})
    assert statuses(looser) == {
        "wide": "passed", "skipped": "not run", "narrow": "passed", "broken": "error", "tight": "passed",
    }  # fmt: skip
    assert looser.results[2].gate["max_drop"] == 0.2
    assert looser.results[2].verdict.budget == 0.2
    assert statuses(recheck(report, thresholds={"max_drop": 0})).popitem() == ("tight", "failed")
    assert statuses(report)["narrow"] == "failed"  # the report itself stays


def test_without_changes_nothing_changes(report):
    assert recheck(report).to_dict() == report.to_dict()


def test_nothing_is_added_to_a_threshold(report):
    """A limit of the value joins the drop that the gate had."""
    again = recheck(report, thresholds={"min_value": 0.99, "max_drop": None})
    assert again.results[0].gate["max_drop"] == 0.1
    assert again.results[0].verdict.reasons == ["top1 is 90.00 %; min_value is 99.00 %"]


def test_gates_of_a_file(report):
    again = recheck(
        report, gates=[gate("narrow", max_drop=0.2), gate("new", max_drop=0.1), gate("skipped", min_value=0)]
    )
    assert statuses(again)["narrow"] == "passed"
    assert statuses(again)["wide"] == "passed"
    assert again.results[-1].name == "new"
    assert (again.results[-1].status, again.results[-1].error) == (
        "not run", "the report has no measurement of this gate",
    )  # fmt: skip
    assert again.results[1].gate["min_value"] == 0


def test_a_gate_that_now_measures_something_else():
    report = GateReport([result(gate("a", max_drop=0.1), measured(options={"k": 1}))])
    for changed in (gate("a", max_drop=0.1, k=5), gate("a", metric="agreement", max_drop=0.1)):
        again = recheck(report, gates=[changed]).results[0]
        assert again.status == "error"
        assert "now asks for another" in again.error
    assert recheck(report, gates=[gate("a", max_drop=0.1, k=1)]).results[0].status == "passed"


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({"model": "out/a.onnx"}, {"model": "out/b.onnx"}, "model 'out/a.onnx'"),
        ({"reference": "a.onnx"}, {}, "reference 'a.onnx'"),
        ({"data": "a.npy;b.npy"}, {"data": "a.npy"}, "data 'a.npy;b.npy'"),
        ({}, {"labels": "y.npy"}, "no labels"),
        ({"max_samples": 20}, {}, "max_samples 20"),
        ({"preprocess": {"mean": [1, 2, 3]}}, {"preprocess": {"mean": [1, 2, 4]}}, "preprocess"),
    ],
)
def test_a_gate_that_is_now_of_other_files(before, now, named):
    report = GateReport([result(gate("a", max_drop=0.1, **before), measured())])
    again = recheck(report, gates=[gate("a", max_drop=0.1, **now)]).results[0]
    assert again.status == "error"
    assert f"the report holds a measurement with {named}" in again.error
    assert recheck(report, gates=[gate("a", max_drop=0.2, **before)]).results[0].status == "passed"


def test_an_option_that_is_left_to_its_default():
    """top_k counts 3 classes where nothing is said."""
    found = gate("a", metric="top_k", max_drop=0.1, k=5)
    five = Measurement("top_k", "share", "own", True, 0.9, 0.95, 100, options={"k": 5})
    report = GateReport([result(found, five)])
    again = recheck(report, gates=[gate("a", metric="top_k", max_drop=0.1)]).results[0]
    assert again.status == "error"
    assert "with k 5" in again.error
    three = GateReport([result(gate("a", metric="top_k", max_drop=0.1), measured(options={"k": 3}, metric="top_k"))])
    assert recheck(three, gates=[gate("a", metric="top_k", max_drop=0.1, k=3)]).results[0].status == "passed"


def test_files_of_another_machine_are_known_by_name(tmp_path):
    report = GateReport([result(gate("a", max_drop=0.1, model="/ci/build/out/a.onnx"), measured())])
    assert recheck(report, gates=[gate("a", max_drop=0.1, model="out/a.onnx")]).results[0].status == "passed"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.onnx").touch()
    report = GateReport([result(gate("a", max_drop=0.1, model=tmp_path / "one/a.onnx"), measured())])
    again = recheck(report, gates=[gate("a", max_drop=0.1, model=tmp_path / "two/a.onnx")])
    assert again.results[0].status == "error", "both are there, and they are two files"


def test_a_wrong_threshold_is_an_error_of_that_gate(report):
    again = recheck(report, thresholds={"max_drop": -1})
    assert again.results[0].status == "error"
    assert "max_drop is -1" in again.results[0].error


def test_what_could_not_be_judged_can_be_later():
    """max_drop had nothing to count from; a limit of the value has."""
    item = GateResult(gate("a", max_drop=0.1).to_dict(), "error", measured(reference=None), error="nothing to count")
    again = recheck(GateReport([item]), gates=[gate("a", min_value=0.5)]).results[0]
    assert (again.status, again.error) == ("passed", None)


@pytest.fixture
def against_baseline(tmp_path):
    """A report of a gate with the baseline 0.92, and the folder."""
    baselines, found = Baselines(tmp_path), gate("a", max_drop=0.01, baseline="b")
    rows = {"value_rows": [[1.0]] * 90 + [[0.0]] * 10, "binary": True, "data": {"sha256": "x"}}
    baselines.write("b", measured(0.92, **{**rows, "value_rows": [[1.0]] * 92 + [[0.0]] * 8}))
    now = measured(0.9, **rows)
    return GateReport([result(found, now, settle(found, now, baselines))]), baselines


def test_the_baseline_is_found_in_its_folder(against_baseline):
    report, baselines = against_baseline
    assert report.results[0].status == "failed"
    again = recheck(report, thresholds={"max_drop": 0.05}, baselines=baselines).results[0]
    assert (again.status, again.verdict.base, again.verdict.p_value) == ("passed", 0.92, 0.5)


def test_without_its_folder_its_value_counts(against_baseline):
    report, _ = against_baseline
    again = recheck(report, thresholds={"max_drop": 0.05}).results[0]
    assert (again.status, again.verdict.base, again.verdict.p_value) == ("passed", 0.92, None)
    assert "counts as exact" in again.verdict.notes[-1]
    assert recheck(report).results[0].status == "failed"


def test_judging_again_writes_no_baseline(against_baseline, tmp_path):
    report, _ = against_baseline
    empty = Baselines(tmp_path / "empty", update=True)
    again = recheck(report, baselines=empty).results[0]
    assert again.status == "error"
    assert "There is no baseline" in again.error
    assert not empty.folder.exists()


def test_a_baseline_that_was_only_just_written(tmp_path):
    found, now = gate("a", max_drop=0.01, baseline="b"), measured()
    report = GateReport([result(found, now, settle(found, now, Baselines(tmp_path)))])
    again = recheck(report).results[0]
    assert again.status == "error"
    assert "no value of the baseline 'b'" in again.error
    assert recheck(report, baselines=Baselines(tmp_path)).results[0].status == "passed"
