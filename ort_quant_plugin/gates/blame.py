"""Which layers make a gate fail: those that make the most noise of what would be clean inputs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.comparison_layers import compare_layers, model_with_layers, same_outputs
from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.gates.measurement import LayerBlame
from ort_quant_plugin.gates.metrics import metric_named

if TYPE_CHECKING:
    from ort_quant_plugin.comparison_layers import LayerComparison
    from ort_quant_plugin.gates.evaluate import Evaluator
    from ort_quant_plugin.gates.evaluation import Evaluation
    from ort_quant_plugin.gates.gate import Gate

__all__ = ["blame"]

_NAMED = 3
_SAMPLES = 16  # enough to rank layers, and running all samples once more would take longer than the gate


def blame(gate: Gate, evaluator: Evaluator, **overrides: Any) -> tuple[list[LayerBlame], str | None]:
    """The three layers that add the most noise, measured on the first samples.

    Args:
        gate: The gate that was missed.
        evaluator: Knows its models and data.
        **overrides: What the gate was measured with instead of its own.

    Returns:
        The layers, worst first, and what the reader should know about them: where they were measured, or why there
        are none. No layers and no word for metrics that layers have no part in, such as the size of a file.
    """
    if not metric_named(gate.metric).blames_layers:
        return [], None
    try:
        evaluation = evaluator.evaluation(gate, **overrides)
        if evaluation.reference is None:
            return [], "there is no float model to compare with: add reference=…"
        key = (evaluation.model, evaluation.reference, evaluation.samples(_SAMPLES).key, gate.op_libraries)
        if key not in evaluator.blames:
            evaluator.blames[key] = _blame(evaluation)
        return evaluator.blames[key]
    except OrtQuantError as error:  # the gate is judged already: its verdict must not get lost
        return [], error.message.rstrip(".")


def _blame(evaluation: Evaluation) -> tuple[list[LayerBlame], str | None]:
    assert evaluation.reference is not None
    path = Path(evaluation.model.path)
    measured = model_with_layers(path)
    notes = []
    if measured != path:
        first, gate = evaluation.samples(_SAMPLES), evaluation.gate
        if not same_outputs(path, measured, first, op_libraries=gate.op_libraries, threads=gate.threads):
            return [], f"{path.name} has none that can be told apart, and {measured.name} beside it has other outputs"
        notes.append(f"of {measured.name}, which has the same outputs")
    samples = evaluation.samples(_SAMPLES)
    layers, _ = compare_layers(
        evaluation.reference.path, measured, samples, own=True, op_libraries=evaluation.gate.op_libraries
    )
    if not layers:
        return [], f"{path.name} has none that can be told apart: keep its fake_quant model beside it"
    if not samples.complete:
        notes.append(f"measured on the first {samples.size} samples")
    return _worst(layers), ", ".join(notes) or None


def _worst(layers: list[LayerComparison]) -> list[LayerBlame]:
    worst = sorted(layers, key=lambda layer: -layer.own.noise_to_signal)[:_NAMED]
    return [
        LayerBlame(layer.name, layer.op_type, _finite(layer.error.sqnr_db), min(1.0, layer.own.noise_to_signal))
        for layer in worst
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
