"""``--quant-max-samples``: an upper limit for every gate."""

from __future__ import annotations

import pytest

GATES = """
import pytest

pytestmark = pytest.mark.quant_gate(metric="agreement", min_value=0, reference="float.onnx", data="x.npy", batch_size=8)

@pytest.mark.quant_gate(max_samples=10)
def test_fewer(quant_gate):
    assert quant_gate.check(model="int8_ort_model.onnx").measurement.samples == 10

@pytest.mark.quant_gate(max_samples=50)
def test_more(quant_gate):
    assert quant_gate.check(model="int8_ort_model.onnx").measurement.samples == 20

def test_argument(quant_gate):
    assert quant_gate.check(model="int8_ort_model.onnx", max_samples=50).measurement.samples == 20

def test_all(quant_gate):
    assert quant_gate.check(model="int8_ort_model.onnx").measurement.samples == 20
"""


def test_the_smaller_limit_holds(digits_project, pytester, run):
    pytester.makepyfile(GATES)
    result = run("--quant-max-samples", "20")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["quant gates: *at most 20 samples"])


@pytest.mark.parametrize("value", ["0", "1.5"])
def test_no_number_of_samples(project, run, value):
    result = run(f"--quant-max-samples={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--quant-max-samples*'{value}' is not a number of samples*"])


def test_a_missing_baseline_is_not_written_of_fewer_samples(digits_project, pytester, run):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.quant_gate(metric="agreement", max_drop=0.1, reference="float.onnx", data="x.npy", baseline="net")
        def test_net(quant_gate):
            quant_gate.check(model="int8_ort_model.onnx")
        """
    )
    result = run("--quant-max-samples=5")
    result.assert_outcomes(failed=1)
    assert "none is written of a part of the data" in " ".join(str(result.stdout).split())
    assert not (pytester.path / "quant_baselines").exists()


def test_baselines_of_fewer_samples_are_refused(project, run):
    result = run("--quant-max-samples=5", "--quant-update-baselines")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --quant-update-baselines with --quant-max-samples *"])
