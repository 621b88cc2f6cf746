"""A plugin for ort-quant: the hooks it implements. What they register is in the other modules."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter

from ort_quant_plugin.plugins import ReportSection, hookimpl


@hookimpl
def ort_quant_register_methods(registry):
    from ort_quant_sample.method import MinmaxPlus

    registry.add("minmax_plus", MinmaxPlus())


@hookimpl
def ort_quant_register_passes(registry):
    from ort_quant_sample.passes import CollapseRelu

    registry.add("collapse_relu", CollapseRelu(), after=("remove_identity",))


@hookimpl
def ort_quant_register_metrics(registry):
    from ort_quant_sample.metrics import mean_abs_error

    registry.add("mean_abs_error", mean_abs_error)


@hookimpl
def ort_quant_register_gate_metrics(registry):
    from ort_quant_sample.gate_metrics import Margin

    registry.add("margin", Margin())


@hookimpl
def ort_quant_register_commands(registry):
    from ort_quant_sample.commands import widest_ranges

    registry.add("widest-ranges", widest_ranges)


@hookimpl
def ort_quant_should_quantize(node):
    """Keep layers float whose name matches the pattern in ORT_QUANT_SAMPLE_KEEP, such as 'head*'."""
    pattern = os.environ.get("ORT_QUANT_SAMPLE_KEEP")
    return False if pattern and fnmatch.fnmatch(node.name, pattern) else None


@hookimpl
def ort_quant_report(report):
    counts = Counter(f"{layer.op_type} {layer.status}" for layer in report.layers)
    return ReportSection("Layers by operator", "\n".join(f"{what}: {n}" for what, n in sorted(counts.items())))
