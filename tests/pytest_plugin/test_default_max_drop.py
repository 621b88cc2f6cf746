"""``quant_default_max_drop``: the threshold of gates that have none."""

from __future__ import annotations

import pytest

GATES = """
import pytest

@pytest.mark.quant_gate(metric="top1")
def test_default(quant_gate, accuracy):
    assert quant_gate.gate.max_drop == 0.03
    quant_gate.judge(accuracy(0.94, 0.96))

@pytest.mark.quant_gate(metric="top1", max_drop=0.01)
def test_own_drop(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.94, 0.96))

@pytest.mark.quant_gate(metric="top1", min_value=0.1)
def test_own_minimum(quant_gate, accuracy):
    assert quant_gate.gate.max_drop is None
    quant_gate.judge(accuracy(0.2, 0.96))
"""


def test_it(project, pytester, run):
    project("quant_default_max_drop = 0.03")
    pytester.makepyfile(GATES)
    result = run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_own_drop*"])


@pytest.mark.parametrize("value", ["-0.1", "1 %", "nan"])
def test_no_number(project, run, value):
    project(f"quant_default_max_drop = {value}")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: quant_default_max_drop is '{value}'; expected a number of at least 0*"])
