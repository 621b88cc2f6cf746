"""The marker ``quant_gate``: what it takes, what stops the run before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TEST = """
import pytest

@pytest.mark.quant_gate({arguments})
def test_gate(quant_gate, accuracy):
    quant_gate.judge(accuracy())
"""


def gates(name="gates.json"):
    return {item["gate"]["name"]: item for item in json.loads(Path(name).read_text())["results"]}


WRONG = {
    "'top1', max_drop=0.01": "the marker quant_gate has the positional argument 'top1'",
    "max_drop=0.01": "the gate has no metric",
    "metric='top1'": "the gate has no threshold",
    "metric='top1', max_drop=-0.01": "max_drop is -0.01",
    "metric='top1', max_drop='1 %'": "max_drop is '1 %'",
    "metric='top1', max_drop=0.01, significance=0.9": "significance is 0.9",
    "metric='top1', max_drop=0.01, batch_size=0": "batch_size is 0",
    "metric='top1', max_drop=0.01, model=3": "model is 3",
    "metric='top1', max_drop=0.01, baseline='../x'": "'../x' is no name of a baseline",
}


def test_wrong_markers_stop_the_run_and_name_the_tests(project, pytester, run):
    pytester.makepyfile(**{f"test_{i}": TEST.format(arguments=text) for i, text in enumerate(WRONG)})
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_{i}.py::test_gate: {text}*" for i, text in enumerate(WRONG.values())])
    result.stdout.no_fnmatch_line("*passed*")


def test_wrong_markers_whatever_the_number_of_processes(project, pytester, run, plugin_args):
    pytester.makepyfile(
        test_a=TEST.format(arguments="'top1'"), test_b=TEST.format(arguments="metric='top1'"), test_c="def test(): pass"
    )
    result = run(*plugin_args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_a.py::test_gate: *", "ERROR: test_b.py::test_gate: *"])
    assert str(result.stderr).count("ERROR: ") == 2
    assert "Traceback" not in str(result.stderr) + str(result.stdout)
    result.stdout.no_fnmatch_line("*passed*")


def test_markers_of_module_class_and_function_add_up(project, pytester, run):
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.quant_gate(model="a.onnx", reference="float.onnx", max_drop=0.5)

        @pytest.mark.quant_gate(model="b.onnx", max_drop=0.1)
        class TestB:
            @pytest.mark.quant_gate(metric="top1", max_drop=0.01, k=3)
            def test_it(self, quant_gate, accuracy):
                gate = quant_gate.gate
                assert gate.model.endswith("b.onnx") and gate.reference.endswith("float.onnx")
                assert gate.max_drop == 0.01 and gate.options == {"k": 3}
                measurement = accuracy()
                measurement.options = {"k": 3}
                quant_gate.judge(measurement)
        """
    )
    run().assert_outcomes(passed=1)


def test_a_setting_nobody_knows_is_no_option_of_a_measurement(project, pytester, run):
    pytester.makepyfile(TEST.format(arguments="metric='top1', max_drop=0.5, max_dorp=0.0"))
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["gate 'test_gate': *quant_gate sets 'max_dorp'*"])


def test_paths_start_from_the_rootdir(project, pytester, run):
    pytester.makepyfile(
        **{
            "sub/test_gate": """
            import pytest
            from pathlib import Path

            @pytest.mark.quant_gate(metric="top1", min_value=0, model="models/a.onnx", labels=Path("y.npy"), data="/x")
            def test_gate(quant_gate, accuracy, pytestconfig):
                gate = quant_gate.gate
                assert Path(gate.model) == pytestconfig.rootpath / "models" / "a.onnx"
                assert Path(gate.labels) == pytestconfig.rootpath / "y.npy"
                assert gate.data == "/x"
                quant_gate.judge(accuracy())
            """
        }
    )
    run("sub").assert_outcomes(passed=1)


def test_gates_are_named_after_their_tests(project, pytester, run):
    body = """
import pytest

@pytest.mark.parametrize("form", ["int 8", "fp16"])
@pytest.mark.quant_gate(metric="top1", min_value=0)
def test_top1(quant_gate, accuracy, form):
    quant_gate.judge(accuracy())
"""
    own = TEST.format(arguments="metric='top1', min_value=0, name='mine'")
    pytester.makepyfile(test_a=body, test_own=own, **{"sub/test_b": body.replace('["int 8", "fp16"]', '["fp16"]')})
    run("--quant-report", "gates.json").assert_outcomes(passed=4)
    assert set(gates()) == {"test_top1[int_8]", "test_a.py/test_top1[fp16]", "sub/test_b.py/test_top1[fp16]", "mine"}


def test_names_that_only_differ_in_what_names_cannot_have_are_numbered(project, pytester, run, plugin_args):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("form", ["a b", "a:b", "a_b"])
        @pytest.mark.quant_gate(metric="top1", max_drop=0.5, baseline=True)
        def test_it(quant_gate, accuracy, form):
            quant_gate.judge(accuracy())
        """
    )
    run(*plugin_args).assert_outcomes(failed=3)
    run(*plugin_args, "--quant-report", "gates.json").assert_outcomes(passed=3)
    assert set(gates()) == {"test_it[a_b]", "test_it[a_b]-2", "test_it[a_b]-3"}
    stored = {path.name for path in (pytester.path / "quant_baselines").rglob("*.json")}
    assert stored == {"test_it[a b].json", "test_it[a%3Ab].json", "test_it[a_b].json"}, "whichever tests are chosen"


@pytest.mark.parametrize("shared", ["name='same'", "baseline='same'"])
def test_two_gates_share_neither_name_nor_baseline(project, pytester, run, shared):
    text = TEST.format(arguments=f"metric='top1', max_drop=0, {shared}")
    pytester.makepyfile(test_a=text, test_b=text)
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_b.py::test_gate: *same* is that of test_a.py::test_gate too.*"])


def test_the_marker_is_registered_and_explained(project, run):
    run("--markers").stdout.fnmatch_lines(["@pytest.mark.quant_gate(*metric*"])


def test_fixtures_of_gates_want_the_marker(project, pytester, run):
    pytester.makepyfile("def test_gate(quant_gate): quant_gate.check()")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*::test_gate requests a fixture of accuracy gates, but has no marker*"])
