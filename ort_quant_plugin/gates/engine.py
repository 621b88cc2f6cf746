"""Run gates: measure, hold against baseline and thresholds, and name the layers to blame for a miss.

pytest and the command line share this; neither is known here.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import OrtQuantError
from ort_quant_plugin.gates.baselines import settle
from ort_quant_plugin.gates.blame import blame
from ort_quant_plugin.gates.evaluate import Evaluator
from ort_quant_plugin.gates.measurement import GateResult
from ort_quant_plugin.gates.report import GateReport
from ort_quant_plugin.logs import LOGGER
from ort_quant_plugin.progress import ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ort_quant_plugin.gates.baselines import Baselines
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.measurement import LayerBlame, Measurement
    from ort_quant_plugin.progress import Progress

__all__ = ["run_gate", "run_gates"]


def run_gate(gate: Gate, evaluator: Evaluator, baselines: Baselines | None = None, **overrides: Any) -> GateResult:
    """Measure and judge one gate.

    Args:
        gate: The gate.
        evaluator: Measures; share one among the gates of a run.
        baselines: Where stored baselines are; ``None`` where no gate has one.
        **overrides: ``data``, ``labels``, ``model``, ``reference`` instead of the gate's.

    Returns:
        The result. What cannot be measured has the status ``"error"``: a gate that was not judged has not passed. That
        holds for bugs of metrics and of functions that gates name, too: other gates have results all the same.
    """
    measurement: Measurement | None = None
    try:
        measurement = evaluator.measure(gate, **overrides)
        verdict = settle(gate, measurement, baselines)
    except OrtQuantError as error:
        return GateResult(gate.to_dict(), "error", measurement=measurement, error=str(error))
    except Exception as error:
        LOGGER.debug("Gate %s could not be measured.", gate.name, exc_info=True)
        problem = f"the metric {gate.metric!r} raised {type(error).__name__}: {error}"
        hint = "AMCT_LOG_LEVEL=DEBUG, or ort-quant --debug, shows where."
        return GateResult(gate.to_dict(), "error", error=f"{problem} Hint: {hint}")
    missed = len(verdict.reasons) > (1 if verdict.baseline_written else 0)
    if missed and gate.layers:
        measurement.layers, measurement.layers_note = _blamed(gate, evaluator, overrides)
    return GateResult(gate.to_dict(), "passed" if verdict.passed else "failed", measurement, verdict)


def _blamed(gate: Gate, evaluator: Evaluator, overrides: dict[str, Any]) -> tuple[list[LayerBlame], str | None]:
    """The gate is judged already: its verdict must not get lost, whatever happens."""
    try:
        return blame(gate, evaluator, **overrides)
    except Exception as error:
        LOGGER.debug("The layers of gate %s are not known.", gate.name, exc_info=True)
        return [], f"looking for them raised {type(error).__name__}: {error}"


def run_gates(
    gates: Iterable[Gate],
    *,
    evaluator: Evaluator | None = None,
    baselines: Baselines | None = None,
    progress: Progress | None = None,
    finished: Callable[[GateResult], None] | None = None,
) -> GateReport:
    """Run gates in order.

    Args:
        gates: The gates.
        evaluator: Measures; default: a fresh one.
        baselines: See :func:`run_gate`.
        progress: Receives one event per batch, and one per gate.
        finished: Receives each result as it comes.
    """
    started = time.perf_counter()
    evaluator = evaluator if evaluator is not None else Evaluator(progress=progress)
    gates, results = list(gates), []
    for done, gate in enumerate(gates, 1):
        results.append(run_gate(gate, evaluator, baselines))
        if finished is not None:
            finished(results[-1])
        if progress is not None:
            progress(ProgressEvent("gates", done, len(gates), "gate"))
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return GateReport(results, evaluator.environment(), created, time.perf_counter() - started)
