"""Put nodes in topological order: producers before readers, otherwise the order they had.

AMCT sorts on load; ONNX demands it, but exporters and graph editors do not always deliver it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["SortNodes"]


class SortNodes:
    """Sorts the nodes of the graph and of its bodies topologically."""

    name = "sort_nodes"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Sort.

        Raises:
            ModelError: The graph has a cycle.
        """
        report = PassReport(self.name)
        before = list(model.graph)
        try:
            model.graph.sort()
        except ValueError as error:
            raise ModelError(
                f"The nodes of graph {model.graph.name!r} form a cycle.", hint="Export the model again."
            ) from error
        if list(model.graph) != before:
            report.change(model.graph.name, "nodes put into topological order")
        return report
