"""Decide which initializers are constants when the model lists initializers among its inputs.

Before IR version 4 every initializer had to be listed as an input; ONNX Runtime treats them all as constants then. From
version 4 on an initializer that is also an input is a default that the caller may override. Exporters kept the old
habit for weights, though (``keep_initializers_as_inputs``), and a weight that a caller may change cannot be quantized:

* IR version below 4: every initializer stops being an input, and the version becomes 4 (same meaning, new spelling);
* otherwise: initializers that feed the weight, bias or statistics of a layer or a BatchNormalization, directly or
  through Transpose, Reshape and the like, stop being inputs;
* all others stay overridable inputs and are not folded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.fold_weights import MOVEMENT, parameters
from ort_quant_plugin.passes.rewrite import is_op

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FreezeWeights"]

_FIRST_OVERRIDABLE_IR = 4


class FreezeWeights:
    """Takes weights that are listed as inputs off the list of inputs, so that they are constants."""

    name = "freeze_weights"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Apply the rules of the module."""
        report = PassReport(self.name)
        defaults = [v for v in model.graph.inputs if v.is_initializer()]
        old = model.ir_version < _FIRST_OVERRIDABLE_IR
        weights = set(defaults) if old else _weights(model.graph)
        for value in defaults:
            if value in weights:
                model.graph.inputs.remove(value)
                report.change(value.name, "a constant from now on: no longer an input that overrides its default")
            else:
                report.decline(
                    value.name, "an input with a default that a caller may override; not treated as a constant"
                )
        if old:
            report.change(model.graph.name, f"IR version raised from {model.ir_version} to {_FIRST_OVERRIDABLE_IR}")
            model.ir_version = _FIRST_OVERRIDABLE_IR
        return report


def _weights(graph: ir.Graph) -> set[ir.Value]:
    found = set()
    for node in graph:
        for index in parameters(node):
            value: ir.Value | None = node.inputs[index]
            while value is not None and is_op(value.producer(), *MOVEMENT):
                producer = value.producer()
                assert producer is not None
                value = producer.inputs[0]
            if value is not None and value.is_initializer():
                found.add(value)
    return found
