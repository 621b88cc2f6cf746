"""``--quant-report``: files for machines, for pull requests, for people."""

from __future__ import annotations

import sys

import pytest

from ort_quant_plugin.gates.report import read_report

GATES = """
import pytest

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_good(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.95, 0.96))

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_bad(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.80, 0.96))

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
@pytest.mark.skip(reason="no photos")
def test_skipped(quant_gate):
    ...
"""


def test_all_forms_at_once(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    names = ("gates.json", "new/gates.md", "gates.html")
    result = run(*plugin_args, *(f"--quant-report={name}" for name in names))
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines([f"quant report: {name}" for name in names])
    report = read_report("gates.json")
    assert {found.name: found.status for found in report.results} == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_skipped": "not run",
    }
    assert [found.error for found in report.not_run] == ["Skipped: no photos"]
    bad = report.failed[0]
    assert bad.verdict.drop == pytest.approx(0.16)
    assert bad.rerun == "pytest test_all_forms_at_once.py::test_bad"
    assert bad.where == "test_all_forms_at_once.py:7"
    for name in names[1:]:
        text = (pytester.path / name).read_text(encoding="utf-8")
        assert "test_bad" in text
        assert "16.00" in text


def test_commands_start_from_where_pytest_was_started(project, pytester, run, monkeypatch):
    pytester.makepyfile(**{"tests/test_net": GATES})
    monkeypatch.chdir(pytester.path / "tests")
    result = run("--quant-report", "out/gates.json", "-k", "bad")
    result.stdout.fnmatch_lines(
        [
            "*run again: *pytest test_net.py::test_bad",
            "*judge again: *ort-quant gate recheck out/gates.json --gate test_bad",
            "quant report: out/gates.json",
        ]
    )
    assert read_report(pytester.path / "tests/out/gates.json").failed[0].where == "tests/test_net.py:7"


def test_a_run_that_stops_early_still_reports(project, pytester, run):
    pytester.makepyfile(GATES.replace("def test_bad", "def test_a_bad").replace("test_good", "test_z_good"))
    run("-x", "--quant-report=gates.json", "-p", "no:randomly").assert_outcomes(passed=1, failed=1)
    (left,) = read_report("gates.json").not_run
    assert left.name == "test_skipped"
    assert left.error == "the run ended before it"


def test_no_gates(project, pytester, run):
    pytester.makepyfile("def test(): pass")
    result = run("--quant-report=gates.json")
    result.assert_outcomes(passed=1)
    assert read_report("gates.json").results == []
    result.stdout.no_fnmatch_line("quant gates: * passed*")


def test_another_suffix(project, run):
    result = run("--quant-report=gates.xml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --quant-report: *gates.xml*expected one of .json, .md, .html*"])


def test_a_folder_that_cannot_be_made(project, pytester, run):
    (pytester.path / "file").touch()
    result = run("--quant-report=file/gates.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --quant-report: Cannot write *file*"])


def test_a_report_that_cannot_be_written_fails_the_run(project, pytester, run):
    pytester.makepyfile(f"{GATES}\ndef test_last(pytestconfig):\n    (pytestconfig.rootpath / 'gates.json').mkdir()\n")
    result = run("--quant-report=gates.json", "-k", "good or last")
    result.assert_outcomes(passed=2, deselected=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["error: Cannot write *gates.json*"])


def test_judged_again_without_inference(project, pytester, run):
    pytester.makepyfile(GATES)
    run("--quant-report=gates.json")
    command = ("-m", "ort_quant_plugin", "gate", "recheck", "gates.json", "--gate", "test_bad")
    assert pytester.run(sys.executable, *command).ret == 1
    assert pytester.run(sys.executable, *command, "--max-drop", "0.2").ret == 0
