"""Say which nodes own bodies (If, Loop, Scan …): nothing inside a body is folded, fused or quantized.

A body may run many times or not at all, so a range observed on one of its tensors has no fixed number of samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.contract import bodies

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ReportBodies"]


class ReportBodies:
    """Lists the nodes whose bodies stay untouched; changes nothing."""

    name = "report_bodies"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Report every owner of a body in the main graph once, with the number of nodes inside."""
        report = PassReport(self.name)
        for node in model.graph:
            inside = sum(len(list(body.all_nodes())) for body in bodies(node))
            if inside:
                report.decline(node.name, f"the {inside} nodes in the body of this {node.op_type} stay as they are")
        return report
