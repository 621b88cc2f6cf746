"""What a run prints: a header only where options are set, the table worst first, one line to grep."""

from __future__ import annotations

import re

import pytest

GATES = """
import pytest

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_good(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.95, 0.96))

@pytest.mark.quant_gate(metric="top1", max_drop=0.02)
def test_bad(quant_gate, accuracy):
    quant_gate.judge(accuracy(0.80, 0.96))
"""


@pytest.mark.parametrize("args", [(), ("-p", "xdist.plugin", "-n", "1")], ids=["plain", "n1"])
def test_the_table(project, pytester, run, args):
    pytester.makepyfile(GATES)
    result = run(*args)
    result.stdout.fnmatch_lines(
        [
            "*= quant gates =*",
            "gate *| metric *| *float | *int8 | *drop | *budget | *n | verdict",
            "test_bad *| top1 *| 96.00 % | 80.00 % | 16.00 pp | 2.00 pp | 100 | FAILED",
            "test_good *| top1 *| 96.00 % | 95.00 % | *1.00 pp | 2.00 pp | 100 | passed",
            "quant gates: 1 passed, 1 failed, 0 not run",
        ]
    )
    assert str(result.stdout).count("= quant gates =") == 1


def test_no_header_unless_asked(project, pytester, run):
    pytester.makepyfile(GATES)
    result = run("-k", "good")
    assert not re.search(r"^quant gates: ort-quant-plugin", str(result.stdout), re.MULTILINE)
    result = run("-k", "good", "--quant-max-samples=9", "--quant-require-gates", "--quant-baseline-dir=stored")
    result.stdout.fnmatch_lines(
        ["quant gates: ort-quant-plugin *, baselines: stored, at most 9 samples, every gate must run"]
    )


def test_the_machine_is_named_where_something_was_measured(digits_project, pytester, run):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.quant_gate(metric="size_ratio", max_value=1, model="int8_ort_model.onnx", reference="float.onnx")
        def test_size(quant_gate):
            quant_gate.check()
        """
    )
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["onnxruntime *, isa *, numpy *, cpu *"])


@pytest.mark.parametrize(("variable", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_colour(project, pytester, run, monkeypatch, variable, coloured):
    monkeypatch.delenv("PY_COLORS")
    monkeypatch.setenv(variable, "1")
    pytester.makepyfile(GATES)
    text = run().stdout.str()
    assert ("\x1b[31mquant gates: 1 passed" in text) is coloured
    assert ("\x1b" in text) is coloured
