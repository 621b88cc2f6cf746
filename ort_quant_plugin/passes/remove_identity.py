"""Take out operators that do nothing at inference.

    Identity(x) = x
    Dropout(x) = x          outside training, and when nobody reads the mask
    Cast(x) = x             to the type that x has
    Pad(x) = x              by no elements

Such a node stays where a graph output would get the value of an input, a weight or another output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import attribute, bypass, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir

__all__ = ["RemoveIdentity"]


class RemoveIdentity:
    """Takes out Identity, Dropout in inference mode, Cast to the same type and Pad by zero elements."""

    name = "remove_identity"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Bypass such nodes of the main graph; graph outputs keep their names."""
        report = PassReport(self.name)
        for node in list(model.graph):
            if not _does_nothing(node):
                continue
            refusal = bypass(node)
            if refusal:
                report.decline(node.name, refusal)
            else:
                report.change(node.name, f"{node.op_type} taken out")
        return report


def _does_nothing(node: ir.Node) -> bool:
    rule = _RULES.get(node.op_type) if node.domain == "" else None
    others_read = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    return rule is not None and not others_read and rule(node)


def _is_inference(dropout: ir.Node) -> bool:
    training = dropout.inputs[2] if len(dropout.inputs) > 2 else None
    mode = constant(training)
    return training is None or (mode is not None and not np.any(mode))


def _keeps_type(cast_node: ir.Node) -> bool:
    source = cast_node.inputs[0]
    return source is not None and source.dtype is not None and int(source.dtype) == attribute(cast_node, "to")


def _pads_nothing(pad: ir.Node) -> bool:
    if len(pad.inputs) == 1:
        return not any(cast("Sequence[int]", attribute(pad, "pads", ())))
    pads = constant(pad.inputs[1])
    return pads is not None and not np.any(pads)


_RULES: Mapping[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda _: True,
    "Dropout": _is_inference,
    "Cast": _keeps_type,
    "Pad": _pads_nothing,
}
