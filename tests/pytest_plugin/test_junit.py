"""Results as properties in JUnit's XML."""

from __future__ import annotations

from xml.etree import ElementTree

GATES = """
import pytest

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_good(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.95, 0.96))

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_bad(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.5, 0.75))
"""


def test_properties(project, pytester, run, plugin_args):
    pytester.makepyfile(GATES)
    run(*plugin_args, "--junitxml=junit.xml", "-o", "junit_family=xunit2").assert_outcomes(passed=1, failed=1)
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase")}
    bad = {item.get("name"): item.get("value") for item in cases["test_bad"].iter("property")}
    assert bad == {
        "quant_gate.metric": "top1",
        "quant_gate.float": "0.75",
        "quant_gate.quant": "0.5",
        "quant_gate.drop": "0.25",
        "quant_gate.budget": "0.02",
        "quant_gate.verdict": "failed",
        "quant_gate.samples": "100",
    }
    good = {item.get("name"): item.get("value") for item in cases["test_good"].iter("property")}
    assert good["quant_gate.verdict"] == "passed"
