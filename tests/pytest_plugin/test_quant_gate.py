"""The fixture ``quant_gate``: measure, judge, check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def results():
    return json.loads(Path("gates.json").read_text())["results"]


def test_a_measurement_of_ones_own(project, pytester, run, plugin_args):
    pytester.makepyfile(
        """
        import pytest

        gate = pytest.mark.quant_gate(metric="words", max_drop=0.02)

        @gate
        def test_good(quant_gate, accuracy):
            result = quant_gate.check(measurement=accuracy(0.95, 0.96, metric="words"))
            assert result.status == "passed" and result.verdict.drop == pytest.approx(0.01)

        @gate
        def test_bad(quant_gate, accuracy):
            quant_gate.judge(accuracy(0.90, 0.96, metric="words"))
            raise AssertionError("the line above ends the test")

        @gate
        def test_other(quant_gate, accuracy):
            quant_gate.judge(accuracy(0.95, 0.96, metric="letters"))
        """
    )
    result = run(*plugin_args, "--quant-report=gates.json")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "gate 'test_bad': words * 6.00 *2.00 *",
            "*run again: *pytest *.py::test_bad",
            "*judge again: *ort-quant gate recheck gates.json --gate test_bad",
        ]
    )
    result.stdout.fnmatch_lines(["gate 'test_other': *measurement is of 'letters'*the gate is for 'words'*"])
    result.stdout.no_fnmatch_line("*the line above*")
    result.stdout.no_fnmatch_line("*pytest_support.py*")  # no traceback into the plugin
    assert [item["status"] for item in results()] == ["passed", "failed", "error"]


def test_what_the_marker_names_can_be_replaced(digits_project, pytester, run):
    pytester.makepyfile(
        """
        import numpy as np
        import pytest

        @pytest.mark.quant_gate(metric="top1", model="missing.onnx", reference="float.onnx", data="x.npy", max_drop=0.1)
        def test_top1(quant_gate):
            x, y = np.load("x.npy"), np.load("y.npy")
            whole = quant_gate.measure(model="int8_ort_model.onnx", labels=y)
            assert whole.samples == 60
            result = quant_gate.check(model="int8_ort_model.onnx", data=x[:7], labels=y[:7], batch_size=2, max_drop=0.2)
            assert result.measurement.samples == 7
            assert result.gate["batch_size"] == 2 and result.gate["max_drop"] == 0.2
            some = quant_gate.check(metric="top_k", k=3, model="int8_ort_model.onnx", labels="y.npy")
            assert some.measurement.metric == "top_k" and some.measurement.options["k"] == 3
        """
    )
    run("--quant-report=gates.json").assert_outcomes(passed=1)
    assert [item["gate"]["name"] for item in results()] == ["test_top1", "test_top1[2]"]


def test_paths_in_arguments_start_from_the_rootdir_like_those_in_markers(digits_project, pytester, run, monkeypatch):
    (pytester.path / "tests").mkdir()
    (pytester.path / "tests" / "test_it.py").write_text(
        """
import pytest

@pytest.mark.quant_gate(metric="top1", reference="float.onnx", data="x.npy", max_drop=0.1)
def test_it(quant_gate, quant_session):
    quant_gate.check(model="int8_ort_model.onnx", labels="y.npy")
    quant_session("float.onnx")
"""
    )
    monkeypatch.chdir(pytester.path / "tests")
    run().assert_outcomes(passed=1)


def test_what_cannot_be_measured_fails_without_a_traceback(digits_project, pytester, run):
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.quant_gate(reference="float.onnx", data="x.npy", min_value=0)

        @pytest.mark.quant_gate(metric="agreement", model="missing.onnx")
        def test_model(quant_gate):
            quant_gate.check()

        @pytest.mark.quant_gate(metric="agrement", model="int8_ort_model.onnx")
        def test_metric(quant_gate):
            quant_gate.check()

        @pytest.mark.quant_gate(metric="top1", model="int8_ort_model.onnx")
        def test_labels(quant_gate):
            quant_gate.check()

        @pytest.mark.quant_gate(metric="agreement", model="int8_ort_model.onnx")
        def test_argument(quant_gate):
            quant_gate.check(batch_size=0)
        """
    )
    result = run("--quant-report=gates.json")
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(["*missing.onnx*", "*'agrement'*", "*needs labels*", "*batch_size is 0;*"])
    assert "Traceback" not in str(result.stdout)
    assert "another exception" not in str(result.stdout)
    result.stdout.no_fnmatch_line(">  *")
    assert [item["status"] for item in results()] == ["error"] * 4


def test_a_measurement_and_something_to_measure(project, pytester, run):
    pytester.makepyfile(
        """
        import pytest
        from ort_quant_plugin.errors import ArgumentTypeError

        @pytest.mark.quant_gate(metric="top1", min_value=0)
        def test_both(quant_gate, accuracy):
            with pytest.raises(ArgumentTypeError, match="a measurement and model"):
                quant_gate.check(measurement=accuracy(), model="a.onnx")
            quant_gate.judge(accuracy())
        """
    )
    run().assert_outcomes(passed=1)


def test_a_failure_that_the_test_catches_is_a_failure(project, pytester, run, plugin_args):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.quant_gate(metric="top1", max_drop=0)
        def test_caught(quant_gate, accuracy):
            with pytest.raises(pytest.fail.Exception):
                quant_gate.judge(accuracy())
        """
    )
    result = run(*plugin_args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gate 'test_caught': top1 is worse *"])


@pytest.mark.parametrize("damage", ["value = None", "value_rows = [[1.0], [1.0, 2.0]]", "models = None"])
def test_a_damaged_measurement_is_an_error_of_its_gate(project, pytester, run, damage):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.quant_gate(metric="top1", max_drop=0)
        def test_damaged(quant_gate, accuracy):
            measurement = accuracy()
            measurement.{damage}
            quant_gate.judge(measurement)
        """
    )
    result = run("--quant-report=gates.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gate 'test_damaged': *The measurement is damaged (*"])
    assert [item["status"] for item in results()] == ["error"]


@pytest.mark.parametrize("mark", ["xfail(reason='known')", "xfail(strict=True, reason='known')"])
def test_a_gate_that_is_expected_to_fail(project, pytester, run, mark):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.{mark}
        @pytest.mark.quant_gate(metric="top1", max_drop=0)
        def test_bad(quant_gate, accuracy):
            quant_gate.judge(accuracy())
        """
    )
    result = run("--quant-report=gates.json")
    result.assert_outcomes(xfailed=1)
    (found,) = results()
    assert found["status"] == "failed"
    assert "the test is marked xfail: known" in found["verdict"]["notes"]


def test_a_test_that_breaks_before_it_has_judged(project, pytester, run):
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def broken():
            raise RuntimeError("no network")

        @pytest.mark.quant_gate(metric="top1", max_drop=0)
        def test_setup(quant_gate, broken):
            ...

        @pytest.mark.quant_gate(metric="top1", max_drop=0)
        def test_call(quant_gate):
            raise ValueError("wrong file")
        """
    )
    result = run("--quant-report=gates.json")
    result.assert_outcomes(errors=1, failed=1)
    assert [(item["status"], item["error"]) for item in results()] == [
        ("error", "RuntimeError: no network"),
        ("error", "ValueError: wrong file"),
    ]
