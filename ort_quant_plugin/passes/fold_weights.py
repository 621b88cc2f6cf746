"""Compute weights that stand behind layout operators, whatever their size.

    Conv(x, Transpose(W))    →    Conv(x, W')        W' = Transpose(W)

AMCT folds a constant weight behind a Transpose before it looks for layers; the same holds here for any chain of Cast,
Flatten, Identity, Reshape, Squeeze, Transpose and Unsqueeze between a constant and a weight, a bias or a parameter of a
BatchNormalization. None of these computes anything, so the weight is the same to the last bit (a Cast to a narrower
type rounds once, as it would at run time).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.model import default_opset
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.evaluate import evaluate
from ort_quant_plugin.passes.rewrite import add_initializer, constant, is_constant, is_op, remove_node

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MOVEMENT", "FoldWeights", "parameters"]

MOVEMENT = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_PARAMETERS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
}


def parameters(node: ir.Node) -> list[int]:
    """Indices of the inputs of ``node`` that are weights, biases or statistics where they are constant."""
    if node.domain != "":
        return []
    return [i for i in _PARAMETERS.get(node.op_type, ()) if i < len(node.inputs) and node.inputs[i] is not None]


class FoldWeights:
    """Computes constant weights behind Transpose, Reshape, Cast and other layout operators."""

    name = "fold_weights"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Fold every chain between a constant and a weight."""
        report = PassReport(self.name)
        for layer in list(model.graph):
            for index in parameters(layer):
                value = layer.inputs[index]
                assert value is not None
                self._fold(model, value, report)
        return report

    def _fold(self, model: ir.Model, value: ir.Value, report: PassReport) -> bool:
        """Make ``value`` a constant if it is one behind layout operators; say whether it is constant now."""
        node = value.producer()
        if is_constant(value) or node is None or not is_op(node, *MOVEMENT) or node.graph is not model.graph:
            return is_constant(value)
        source = node.inputs[0]
        if source is None or not self._fold(model, source, report):
            return False
        inputs = [constant(v) for v in node.inputs]
        if any(v is not None and a is None for v, a in zip(node.inputs, inputs, strict=True)):
            report.decline(node.name, "its shape operand is not a constant")
            return False
        if value.is_graph_output():
            report.decline(node.name, f"its output {value.name!r} is a graph output")
            return False
        try:
            (array,) = evaluate(node, inputs, default_opset(model))
        except ValueError as error:
            report.decline(node.name, f"the reference implementation failed: {error}")
            return False
        # The name goes to the constant: what a reader of `value` sees is the same tensor.
        value.replace_all_uses_with(add_initializer(model.graph, str(value.name), array))
        remove_node(node)
        report.change(node.name, f"weight {value.name!r} computed offline ({node.op_type})")
        return True
