"""What must hold before the int8 model is served."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.gates.measurement import Measurement

# All gates of this file are about these two models; each test adds its metric and its threshold.
pytestmark = pytest.mark.quant_gate(
    model="build/digits_ort_model.onnx", reference="build/digits_float.onnx", batch_size=50
)


@pytest.mark.quant_gate(metric="top1", max_drop=0.01, significance=0.05)
def test_accuracy(quant_gate):
    """It reads as many digits as the float model, but for one in a hundred and for what chance can explain."""
    quant_gate.check()


@pytest.mark.quant_gate(metric="agreement", min_value=0.99)
def test_same_answers(quant_gate):
    """Accuracy may hide errors that cancel out; agreement does not."""
    quant_gate.check()


@pytest.mark.quant_gate(metric="sqnr_db", max_drop=0.5, baseline="digits-noise", max_samples=100)
def test_no_noisier_than_the_last_release(quant_gate):
    """The last release is in tests/quant_baselines/digits-noise.json."""
    quant_gate.check()


@pytest.mark.quant_gate(metric="size_ratio", max_value=0.4)
def test_size(quant_gate):
    """What the exercise is for."""
    quant_gate.check()


@pytest.mark.quant_gate(metric="max_error", max_value=0, reference="build/digits_fake_quant_model.onnx")
@pytest.mark.parametrize("form", ["ort", "deploy"])
def test_what_was_simulated_is_what_is_served(quant_gate, form):
    """To the last bit."""
    quant_gate.check(model=f"build/digits_{form}_model.onnx")


@pytest.mark.quant_gate(metric="recall_of_8", max_drop=0.03)
def test_the_hardest_digit(quant_gate, quant_session, quant_data):
    """A metric of the project's own: measured by hand, judged and reported like the others."""
    labels = np.load(quant_data.labels)
    found = {}
    for name in ("ort_model", "float"):
        session = quant_session(f"build/digits_{name}.onnx")
        answers = np.concatenate([session.run(None, feed)[0].argmax(axis=1) for feed in quant_data])
        found[name] = float(np.mean(answers[labels == 8] == 8))
    quant_gate.judge(
        Measurement(
            metric="recall_of_8",
            unit="share",
            kind="own",
            higher_is_better=True,
            value=found["ort_model"],
            reference=found["float"],
            samples=int(np.sum(labels == 8)),
        )
    )
