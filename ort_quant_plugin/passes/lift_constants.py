"""Turn Constant nodes into initializers, so that every later pass knows one form of constant.

    c = Constant<value>()    →    initializer c

Sparse constants and constants that are graph outputs stay nodes.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import is_op

__all__ = ["LiftConstants"]


class LiftConstants:
    """Replaces Constant nodes of the main graph by initializers of the same name."""

    name = "lift_constants"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Lift; a Constant that is a graph output stays a node."""
        report = PassReport(self.name)
        graph = model.graph
        for node in graph:
            if not is_op(node, "Constant"):
                continue
            output = node.outputs[0]
            if output.is_graph_output():
                report.decline(node.name, f"its value {output.name!r} is a graph output")
            elif "sparse_value" in node.attributes:
                report.decline(node.name, "its value is a sparse tensor")
            else:
                _lift(graph, node)
                report.change(node.name, f"made initializer {output.name!r}")
        return report


def _lift(graph: ir.Graph, node: ir.Node) -> None:
    output = node.outputs[0]
    tensor = ir.convenience.get_const_tensor(output)
    assert tensor is not None
    tensor.name = output.name
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=output.name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    output.replace_all_uses_with(value)
    graph.remove(node, safe=True)
