"""Drop what feeds nothing: nodes none of whose outputs is read, then initializers nobody reads.

Operators of foreign domains stay even when unread: they may act by side effect (dump a tensor, collect statistics).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RemoveUnused"]

_PURE_DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft"})


class RemoveUnused:
    """Drops unread nodes and initializers of the main graph; inputs and outputs stay."""

    name = "remove_unused"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Drop, from the end of the graph to its start."""
        report = PassReport(self.name)
        graph = model.graph
        for node in reversed(list(graph)):
            if any(v.uses() or v.is_graph_output() for v in node.outputs):
                continue
            if node.domain not in _PURE_DOMAINS:
                report.decline(node.name, f"unread, but operators of domain {node.domain!r} may act by side effect")
                continue
            graph.remove(node, safe=True)
            report.change(node.name, f"unread {node.op_type} dropped")
        report.changes.reverse()
        for name, value in list(graph.initializers.items()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del graph.initializers[name]
                report.change(name, "unread initializer dropped")
        return report
