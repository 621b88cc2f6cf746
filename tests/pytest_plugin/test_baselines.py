"""Baselines: where they lie, when they are written, that a first or an updated one never passes."""

from __future__ import annotations

import json

import pytest

TEST = """
import pytest

@pytest.mark.quant_gate(metric="top1", max_drop=0.02, baseline={baseline})
@pytest.mark.parametrize("form", ["int8"])
def test_top1(quant_gate, accuracy, form):
    quant_gate.judge(accuracy({value}, 0.96))
"""


@pytest.fixture
def gate(project, pytester):
    """Write the test with the value it measures."""

    def _gate(value, baseline="'net-int8'"):
        (pytester.path / "tests").mkdir(exist_ok=True)
        (pytester.path / "tests" / "test_net.py").write_text(TEST.format(value=value, baseline=baseline))

    return _gate


def stored(path):
    return json.loads(path.read_text())["measurement"]["value"]


def flat(result):
    """The output with long lines joined again."""
    return " ".join(str(result.stdout).split())


def test_a_missing_one_is_written_and_the_test_fails(gate, pytester, run, plugin_args):
    gate(0.95)
    result = run(*plugin_args)
    result.assert_outcomes(failed=1)
    assert "quant_baselines/net-int8.json' did not exist and was written: check and commit it" in flat(result)
    assert stored(pytester.path / "tests/quant_baselines/net-int8.json") == 0.95


def test_a_stored_one_is_what_a_drop_counts_from(gate, pytester, run):
    gate(0.95)
    run()
    gate(0.94)
    run().assert_outcomes(passed=1)
    gate(0.92)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*baseline*3.00 pp*2.00 pp*"])
    assert stored(pytester.path / "tests/quant_baselines/net-int8.json") == 0.95


def test_an_update_rewrites_and_still_fails(gate, pytester, run):
    gate(0.95)
    run()
    gate(0.80)
    result = run("--quant-update-baselines")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["quant gates: *baselines are rewritten"])
    assert "quant_baselines/net-int8.json' was updated: check and commit it" in flat(result)
    assert stored(pytester.path / "tests/quant_baselines/net-int8.json") == 0.80
    run("--quant-update-baselines").assert_outcomes(passed=1)


def test_named_after_file_and_test(gate, pytester, run):
    gate(0.95, baseline="True")
    run().assert_outcomes(failed=1)
    run().assert_outcomes(passed=1)
    assert stored(pytester.path / "tests/quant_baselines/test_net/test_top1[int8].json") == 0.95


@pytest.mark.parametrize(
    ("settings", "args", "folder"),
    [
        (("quant_baseline_dir = stored",), (), "stored"),
        ((), ("--quant-baseline-dir=given",), "given"),
        (("quant_baseline_dir = stored",), ("--quant-baseline-dir=given",), "given"),
    ],
    ids=["ini", "option", "both"],
)
def test_the_folder(gate, project, pytester, run, settings, args, folder):
    project(*settings)
    gate(0.95)
    run(*args)
    assert stored(pytester.path / folder / "net-int8.json") == 0.95
    assert not (pytester.path / "tests/quant_baselines").exists()


def test_a_broken_one_is_named(gate, pytester, run):
    gate(0.95)
    run()
    (pytester.path / "tests/quant_baselines/net-int8.json").write_text("{")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gate 'test_top1[[]int8[]]': could not be judged: *"])
    assert "quant_baselines/net-int8.json' is not JSON" in flat(result)
