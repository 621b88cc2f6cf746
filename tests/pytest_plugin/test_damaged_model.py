"""The point of it all: a damaged model fails and its layer is named, the untouched one passes, none is overlooked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

DAMAGED = "depthwise_conv"
GATES = """
import pytest

pytestmark = pytest.mark.quant_gate(reference="float.onnx", data="x.npy", labels="y.npy", model="{model}")


@pytest.mark.quant_gate(name="{name}-top1", metric="top1", max_drop=0.02)
def test_top1(quant_gate):
    result = quant_gate.check()
    assert result.measurement.samples == 60


@pytest.mark.quant_gate(name="{name}-agreement", metric="agreement", min_value=0.98)
def test_agreement(quant_gate):
    quant_gate.check()


@pytest.mark.quant_gate(name="{name}-sqnr", metric="sqnr_db", min_value=20)
def test_sqnr(quant_gate):
    quant_gate.check()
"""


def test_the_untouched_model_passes_the_damaged_one_fails_and_the_layer_is_named(
    digits_project, pytester, run, plugin_args
):
    pytester.makepyfile(
        test_untouched=GATES.format(model="int8_ort_model.onnx", name="untouched"),
        test_damaged=GATES.format(model="damaged_fake_quant_model.onnx", name="damaged"),
    )
    result = run(*plugin_args, "--quant-report", "gates.json")
    result.assert_outcomes(passed=3, failed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "gate 'damaged-sqnr': sqnr_db is *; min_value is 20.00 dB",
            "  depthwise_conv *",
            "*= quant gates =*",
            "quant gates: 3 passed, 3 failed, 0 not run",
        ]
    )
    results = {item["gate"]["name"]: item for item in json.loads(Path("gates.json").read_text())["results"]}
    assert {name for name, item in results.items() if item["status"] == "passed"} == {
        "untouched-top1",
        "untouched-agreement",
        "untouched-sqnr",
    }
    for metric in ("top1", "agreement", "sqnr"):
        layers = [layer["name"] for layer in results[f"damaged-{metric}"]["measurement"]["layers"]]
        assert len(layers) == 3
        assert DAMAGED in layers


@pytest.mark.parametrize(
    "body", ["pass", "quant_gate.measure(model='int8_ort_model.onnx')"], ids=["nothing", "unjudged"]
)
def test_a_gate_that_judges_nothing_fails(digits_project, pytester, run, body):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.quant_gate(metric="agreement", reference="float.onnx", data="x.npy", min_value=0)
        def test_forgotten(quant_gate):
            {body}
        """
    )
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["The gate did not run: *::test_forgotten *", "quant gates: 0 passed, 1 failed, 0 not run"]
    )


def test_data_without_samples_fails(digits_project, pytester, run):
    pytester.makepyfile(
        """
        import numpy as np
        import pytest

        @pytest.fixture
        def quant_data():
            return np.zeros((0, 1, 8, 8), np.float32)

        @pytest.mark.quant_gate(metric="agreement", model="int8_ort_model.onnx", reference="float.onnx", min_value=0)
        def test_nothing(quant_gate):
            quant_gate.check()
        """
    )
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*sample*"])
