"""Give every node and every used value a name of its own.

An unnamed node becomes ``{op_type}_{index}`` with its position in its graph; of several nodes with one name the first
keeps it and the others get the numeric suffix ``_1``, ``_2`` … (AMCT's rule, which ``updated_model`` exposes). Nodes of
the main graph are named first, then those in bodies; names are unique over the whole model and depend on nothing but
the model, so configuration and record files stay valid from run to run. Inputs and outputs keep their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.model import all_graphs
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NameNodes"]


class NameNodes:
    """Names unnamed nodes ``{op_type}_{index}`` and makes duplicate names unique with a numeric suffix."""

    name = "name_nodes"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Name nodes, then values."""
        report = PassReport(self.name)
        graphs = list(all_graphs(model))
        kept = {node.name for graph in graphs for node in graph if node.name}
        taken: set[str] = set()
        for graph in graphs:
            for index, node in enumerate(graph):
                _name_node(node, index, taken, kept, report)
        _name_values(model.graph, report)
        return report


def _name_node(node: ir.Node, index: int, taken: set[str], kept: set[str], report: PassReport) -> None:
    old = node.name
    if old and old not in taken:
        taken.add(old)
        return
    node.name = _free(old or f"{node.op_type}_{index}", taken | kept, reuse=not old)
    taken.add(node.name)
    report.change(node.name, f"renamed from {old!r}, which another node has" if old else f"named; a {node.op_type}")


def _free(wanted: str, taken: set[str], *, reuse: bool) -> str:
    """``wanted`` if ``reuse`` allows it and it is free, else the first free ``wanted_<n>``, n = 1, 2 …."""
    if reuse and wanted not in taken:
        return wanted
    suffix = 1
    while f"{wanted}_{suffix}" in taken:
        suffix += 1
    return f"{wanted}_{suffix}"


def _name_values(graph: ir.Graph, report: PassReport) -> None:
    """Name used values without a name, and rename node outputs whose name another value of the graph has."""
    outputs = list(graph.outputs)
    taken: set[str] = {str(v.name) for v in (*graph.inputs, *graph.initializers.values(), *outputs)}
    kept = set(taken) | {str(v.name) for node in graph for v in node.outputs if v.name}
    for node in graph:
        for position, value in enumerate(node.outputs):
            if value in outputs or not (value.name or value.uses()):
                continue
            old = value.name
            if old and old not in taken:
                taken.add(old)
                continue
            value.name = _free(old or f"{node.name}_output_{position}", kept, reuse=not old)
            taken.add(value.name)
            kept.add(value.name)
            report.change(value.name, f"value renamed from {old!r}, which another value has" if old else "value named")
