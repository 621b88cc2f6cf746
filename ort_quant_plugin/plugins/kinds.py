"""The kinds of things plugins register, one registry each, and what a value of each kind must look like."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.plugins.registry import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from ort_quant_plugin.calibration.methods.base import CalibrationMethod
    from ort_quant_plugin.export.base import Exporter
    from ort_quant_plugin.gates.metrics.base import GateMetric
    from ort_quant_plugin.passes.base import GraphPass
    from ort_quant_plugin.weights.base import WeightQuantizer

__all__ = [
    "COMMANDS",
    "EXPORTERS",
    "GATE_METRICS",
    "IMPORTERS",
    "KINDS",
    "METHODS",
    "METRICS",
    "OP_LIBRARIES",
    "PASSES",
    "TARGETS",
    "WEIGHT_QUANTIZERS",
    "ReportSection",
    "Target",
]


@dataclass(frozen=True)
class Target:
    """Where an int8 model runs.

    Attributes:
        name: What ``targets=`` and ``--target`` call it.
        summary: One line for listings.
    """

    name: str
    summary: str


@dataclass(frozen=True)
class ReportSection:
    """A section a plugin adds to the report of a run.

    Attributes:
        title: Heading, one line.
        text: Body, any number of lines.
    """

    title: str
    text: str


def _with(*attributes: str) -> Callable[[object], str | None]:
    """A check that a value has ``attributes``; ``__call__`` stands for being callable."""

    def problem(value: object) -> str | None:
        missing = [name for name in attributes if not hasattr(value, name)]
        return f"is a {type(value).__name__} without {', '.join(missing)}" if missing else None

    return problem


def _target_problem(value: object) -> str | None:
    return None if isinstance(value, Target) else f"is a {type(value).__name__}; expected a Target"


def _path_problem(value: object) -> str | None:
    if isinstance(value, (str, os.PathLike)):
        return None
    return f"is a {type(value).__name__}; expected the path of a shared library"


def _command_problem(value: object) -> str | None:
    import click

    return None if isinstance(value, click.Command) else f"is a {type(value).__name__}; expected a click.Command"


def _gate_metric_problem(value: object) -> str | None:
    from ort_quant_plugin.gates.metrics.base import GateMetric

    if not isinstance(value, GateMetric):
        return f"is a {type(value).__name__}; expected a GateMetric"
    return _with("name", "summary")(value)


METHODS: Kind[CalibrationMethod] = Kind(
    "methods", "calibration method", _with("name", "summary", "parameters", "choose"), named=True
)
WEIGHT_QUANTIZERS: Kind[WeightQuantizer] = Kind(
    "weight_quantizers", "weight quantizer", _with("name", "quantize"), named=True
)
PASSES: Kind[GraphPass] = Kind(
    "passes", "pass", _with("name", "phase", "__call__"), options=("after", "before"), named=True
)
EXPORTERS: Kind[Exporter] = Kind(
    "exporters", "exporter", _with("name", "target", "summary", "file_suffix", "export", "verify"), named=True
)
IMPORTERS: Kind[Callable[..., Any]] = Kind("importers", "importer", _with("__call__"))
TARGETS: Kind[Target] = Kind("targets", "target", _target_problem, named=True)
METRICS: Kind[Callable[[Any, Any], float]] = Kind("metrics", "metric", _with("__call__"))
GATE_METRICS: Kind[GateMetric] = Kind("gate_metrics", "gate metric", _gate_metric_problem, named=True)
OP_LIBRARIES: Kind[str | os.PathLike[str]] = Kind("op_libraries", "op library", _path_problem)
COMMANDS: Kind[click.Command] = Kind("commands", "command", _command_problem)

KINDS: tuple[Kind[Any], ...] = (
    METHODS,
    WEIGHT_QUANTIZERS,
    PASSES,
    TARGETS,
    EXPORTERS,
    IMPORTERS,
    METRICS,
    GATE_METRICS,
    OP_LIBRARIES,
    COMMANDS,
)
