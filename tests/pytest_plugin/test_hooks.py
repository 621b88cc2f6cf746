"""Hooks for conftest files: what is recorded of the machine, and a look at every result."""

from __future__ import annotations

import json

CONFTEST = """
from pathlib import Path

def pytest_quant_machine_info(config, info):
    assert info["onnxruntime"]
    info["container"] = "ci-7"
    info["cores"] = 2
    del info["cpu"]
    with Path("asked").open("a") as stream:
        print("once", file=stream)

def pytest_quant_gate_result(config, result):
    assert config.rootpath.is_dir()
    with Path("seen").open("a") as stream:
        print(result.name, result.status, hasattr(config, "workerinput"), file=stream)
"""
GATES = """
import pytest

pytestmark = pytest.mark.quant_gate(model="int8_ort_model.onnx", reference="float.onnx", data="x.npy")

@pytest.mark.quant_gate(metric="cosine", min_value=0.5, baseline="net")
def test_good(quant_gate):
    quant_gate.check()

@pytest.mark.skip(reason="no photos")
@pytest.mark.quant_gate(metric="cosine", min_value=0.5)
def test_skipped(quant_gate): ...

@pytest.mark.quant_gate(metric="size_ratio", max_value=0.01)
def test_bad(quant_gate):
    quant_gate.check()
"""


def test_both(digits_project, pytester, run):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(GATES)
    run("-p", "xdist.plugin", "-n", "1", "--quant-report=gates.json").assert_outcomes(failed=2, skipped=1)
    seen = (pytester.path / "seen").read_text().splitlines()
    assert seen == ["test_good failed False", "test_bad failed False", "test_skipped not run False"]
    report = json.loads((pytester.path / "gates.json").read_text())
    assert report["environment"]["container"] == "ci-7"
    assert report["environment"]["cores"] == "2"
    assert "cpu" not in report["environment"]
    assert (pytester.path / "asked").read_text() == "once\n", "one worker, two measurements"
    baseline = json.loads((pytester.path / "quant_baselines/net.json").read_text())
    assert baseline["measurement"]["environment"]["container"] == "ci-7"

    (pytester.path / "conftest.py").write_text(CONFTEST.replace("ci-7", "ci-8"))
    result = run("-k", "good")
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.fnmatch_lines(["note on test_good: *another environment: *container ci-8 (there ci-7)*"])


def test_machine_info_goes_with_measurements_of_ones_own(project, pytester, run):
    (pytester.path / "conftest.py").write_text((pytester.path / "conftest.py").read_text() + CONFTEST)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.quant_gate(metric="top1", max_drop=0, baseline="own")
        def test_own(quant_gate, accuracy):
            measurement = accuracy()
            measurement.environment = {}
            quant_gate.judge(measurement)
        """
    )
    run().assert_outcomes(failed=1)
    baseline = json.loads((pytester.path / "quant_baselines/own.json").read_text())
    assert baseline["measurement"]["environment"]["container"] == "ci-7"
    assert baseline["measurement"]["created"]
