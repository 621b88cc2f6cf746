"""Options that choose what runs, and pytest's own: a gate that did not run is not a pass."""

from __future__ import annotations

import json

import pytest

from ort_quant_plugin.gates.report import read_report

GATES = """
import pytest

def test_plain():
    ...

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_good(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.95, 0.96))

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_bad(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.80, 0.96))
"""
LINE = "quant gates: {} passed, {} failed, {} not run"


def test_only(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    result = run(*plugin_args, "--quant-only")
    result.assert_outcomes(passed=1, failed=1, deselected=0 if "2" in plugin_args else 1)


def test_skip(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    result = run(*plugin_args, "--quant-skip", "-rs", "--quant-report=gates.json")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines([LINE.format(0, 0, 2), "SKIPPED*--quant-skip"])
    result.stdout.no_fnmatch_line("*= quant gates =*")
    assert {found.error for found in read_report("gates.json").not_run} == {"Skipped: --quant-skip"}


def test_only_and_skip(project, run):
    result = run("--quant-only", "--quant-skip")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --quant-only and --quant-skip leave nothing to run*"])


def test_deselected_gates_are_reported(project, pytester, run):
    pytester.makepyfile(GATES)
    result = run("-k", "good", "--quant-report=gates.json")
    result.stdout.fnmatch_lines(["*= quant gates =*", "test_bad *not run*", LINE.format(1, 0, 1)])
    assert result.ret == pytest.ExitCode.OK
    assert [found.error for found in read_report("gates.json").not_run] == ["deselected"]


def test_last_failed(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    run().assert_outcomes(passed=2, failed=1)
    result = run(*plugin_args, "--lf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gate 'test_bad': *", LINE.format(0, 1, 0)])


def test_every_gate_must_run(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    result = run(*plugin_args, "--quant-require-gates", "-k", "not bad")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([LINE.format(1, 0, 1), "error: 1 of 2 gates did not run*"])
    assert result.parseoutcomes().get("failed", 0) == 0


def test_files_skipped_at_import_may_have_gates(project, pytester, run, plugin_args):
    skipped = "import pytest\npytest.importorskip('no_such_package')\n"
    pytester.makepyfile(test_plain=skipped, test_good=GATES.replace("0.80", "0.95"))
    assert run(*plugin_args, "--quant-require-gates").ret == pytest.ExitCode.OK, "nothing of gates in there"
    pytester.makepyfile(test_gone=skipped + GATES)
    result = run(*plugin_args, "--quant-require-gates")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["error: every gate must run, but * skipped at collection: test_gone.py."])
    assert run(*plugin_args).ret == pytest.ExitCode.OK
    assert run(*plugin_args, "--quant-require-gates", "test_gone.py").ret == pytest.ExitCode.TESTS_FAILED


def test_last_failed_cannot_tell_whether_every_gate_has_run(project, pytester, run):
    pytester.makepyfile(GATES)
    result = run("--quant-require-gates", "--lf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --lf leaves out files unseen*"])


def test_the_ini_file_says_that_every_gate_must_run(project, pytester, run):
    project("quant_require_gates = true")
    pytester.makepyfile(GATES)
    assert run("-k", "plain").ret == pytest.ExitCode.TESTS_FAILED


def test_every_gate_has_run(project, pytester, run):
    pytester.makepyfile(GATES.replace("0.80", "0.95"))
    assert run("--quant-require-gates").ret == pytest.ExitCode.OK


def test_skipped_gates_have_not_run(project, pytester, run):
    gate = "@pytest.mark.quant_gate(metric='top1', max_drop=0.02)"
    pytester.makepyfile(
        test_ways=f"""
        import pytest

        {gate}
        @pytest.mark.skip(reason="no photos")
        def test_skip(quant_gate): ...

        {gate}
        @pytest.mark.skipif(True, reason="no photos")
        def test_skipif(quant_gate): ...

        {gate}
        def test_inside(quant_gate): pytest.skip("no photos")

        {gate}
        @pytest.mark.xfail(run=False, reason="no photos")
        def test_xfail(quant_gate): ...
        """,
        test_module=f"""
        import pytest

        pytestmark = pytest.mark.skip(reason="no photos")

        {gate}
        def test_it(quant_gate): ...
        """,
    )
    result = run("--quant-require-gates", "--quant-report=gates.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["error: 5 of 5 gates did not run*"])
    reasons = {found.name: found.error for found in read_report("gates.json").not_run}
    assert reasons.pop("test_xfail") == "the test is marked xfail: [NOTRUN] no photos"
    assert reasons == dict.fromkeys(("test_skip", "test_skipif", "test_inside", "test_it"), "Skipped: no photos")


def test_collecting_only(project, pytester, run):
    pytester.makepyfile(GATES)
    result = run("--collect-only", "--quant-require-gates", "--quant-report=gates.json")
    assert result.ret == pytest.ExitCode.OK
    assert not (pytester.path / "gates.json").exists()


def test_a_worker_that_dies(project, pytester, run):
    pytester.makepyfile(GATES.replace("quant_gate.judge(accuracy(0.80, 0.96))", "__import__('os')._exit(3)"))
    result = run("-p", "xdist.plugin", "-n", "1", "--max-worker-restart=0", "--quant-report=gates.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    states = {
        item["gate"]["name"]: item["status"]
        for item in json.loads((pytester.path / "gates.json").read_text())["results"]
    }
    assert states["test_good"] == "passed"
    assert states["test_bad"] == "error"
