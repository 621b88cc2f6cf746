"""A graph pass: Relu(Relu(x)) is Relu(x)."""

from __future__ import annotations

from ort_quant_plugin.passes import PassReport, Phase


class CollapseRelu:
    """Feeds the second of two Relus with the input of the first, and drops the first where nobody else reads it.

    The second one stays, so its output keeps its name and its meaning.
    """

    name = "collapse_relu"
    phase = Phase.PREPARE

    def __call__(self, model, context):
        """Rewrite ``model`` in place."""
        report = PassReport(self.name)
        for node in list(model.graph):
            first = node.inputs[0].producer() if is_relu(node) else None
            if not is_relu(first):
                continue
            node.replace_input_with(0, first.inputs[0])
            report.change(node.name, f"reads what {first.name} reads")
            if first.outputs[0].is_graph_output():
                report.decline(first.name, "its output is an output of the model")
            elif not first.outputs[0].uses():
                model.graph.remove(first, safe=True)
        return report


def is_relu(node):
    """Whether ``node`` is an ONNX Relu."""
    return node is not None and (node.domain, node.op_type) == ("", "Relu")
