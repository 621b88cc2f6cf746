"""Accuracy gates: what a quantized model must keep, measured, judged and reported.

pytest and ``ort-quant gate`` share this package. Importing it loads nothing: every pytest run of an environment does.
The names below fetch what they need when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_quant_plugin.gates.baselines import Baselines
    from ort_quant_plugin.gates.engine import run_gate, run_gates
    from ort_quant_plugin.gates.evaluate import Evaluator
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.measurement import GateResult, LayerBlame, Measurement, Verdict
    from ort_quant_plugin.gates.metrics import GateMetric, SampleMetric, gate_metrics
    from ort_quant_plugin.gates.report import GateReport, read_report, recheck, write_report
    from ort_quant_plugin.gates.toml_file import read_gates

__all__ = [
    # what is demanded
    "Gate",
    "read_gates",
    # measure, judge against thresholds and baselines
    "run_gate",
    "run_gates",
    "Evaluator",
    "Baselines",
    # what came out
    "GateResult",
    "Measurement",
    "Verdict",
    "LayerBlame",
    "GateReport",
    "read_report",
    "write_report",
    "recheck",
    # metrics
    "gate_metrics",
    "GateMetric",
    "SampleMetric",
]

_HOMES = {
    "Baselines": "baselines",
    "Evaluator": "evaluate",
    "Gate": "gate",
    "GateMetric": "metrics",
    "GateReport": "report",
    "GateResult": "measurement",
    "LayerBlame": "measurement",
    "Measurement": "measurement",
    "SampleMetric": "metrics",
    "Verdict": "measurement",
    "gate_metrics": "metrics",
    "read_gates": "toml_file",
    "read_report": "report",
    "recheck": "report",
    "run_gate": "engine",
    "run_gates": "engine",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
