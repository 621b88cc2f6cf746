"""Gate metrics by name: the built-in ones, plugins', and plugins' simple metric functions."""

from __future__ import annotations

import difflib
import functools
import os
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ort_quant_plugin.gates.metrics.base import GateMetric

__all__ = ["gate_metrics", "metric_named"]


def gate_metrics() -> Mapping[str, GateMetric]:
    """Every metric a gate can have, by name, built-in ones first."""
    return _gate_metrics(os.environ.get("ORT_QUANT_PLUGINS"))


@functools.cache
def _gate_metrics(_selection: str | None) -> Mapping[str, GateMetric]:
    """Once per selection of plugins: a run judges many gates, and plugins load from disk."""
    from ort_quant_plugin.gates.metrics.functions import FunctionMetric
    from ort_quant_plugin.metrics import BUILTIN_METRICS
    from ort_quant_plugin.plugins import build_plugin_manager

    manager = build_plugin_manager()
    found = dict(manager.gate_metrics())
    for name, function in manager.metrics().items():
        if name not in found and name not in BUILTIN_METRICS:
            found[name] = FunctionMetric(name, function)
    return found


def metric_named(name: str) -> GateMetric:
    """The metric of a gate.

    Raises:
        ConfigError: There is none of that name.
    """
    known = gate_metrics()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(
            f"There is no gate metric {name!r}; expected one of: {', '.join(known)}.",
            hint=f"Did you mean {near[0]!r}?" if near else "Install the plugin that adds it, or choose another one.",
            value=name,
            expected=list(known),
        )
    return known[name]
