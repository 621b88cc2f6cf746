"""Put the bodies of model-local functions where they are called, so that layers inside them can be quantized.

    y = F(x),  F(a) = g(f(a))    →    y = g(f(x))

Functions that functions call are inlined too; the definitions are dropped.
"""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.naming import NameNodes

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["InlineFunctions"]


class InlineFunctions:
    """Replaces calls of model-local functions by the functions' nodes."""

    name = "inline_functions"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Inline every function and drop the definitions.

        Raises:
            ModelError: The functions call each other in a cycle, or disagree about an opset version.
        """
        from onnx_ir.passes.common import InlinePass

        report = PassReport(self.name)
        if not model.functions:
            return report
        names = [f"{f.domain}::{f.name}" for f in model.functions.values()]
        _refuse_cycles(model)
        try:
            InlinePass()(model)
        except Exception as error:
            cause = error.__cause__ or error
            raise ModelError(
                f"The functions of the model cannot be inlined: {cause}.",
                hint="Inline them in the exporter (torch.onnx.export(..., export_modules_as_functions=False)).",
                functions=names,
            ) from error
        NameNodes()(model, context)  # a function that is called twice leaves its node names twice
        for name in names:
            report.change(name, "inlined")
        return report


def _refuse_cycles(model: ir.Model) -> None:
    """Functions that call each other in a circle have no end; older inliners of onnx_ir never return then."""
    calls = {
        key: {node.op_identifier() for node in function.all_nodes()} & set(model.functions)
        for key, function in model.functions.items()
    }
    try:
        graphlib.TopologicalSorter(calls).prepare()
    except graphlib.CycleError as error:
        names = [f"{domain}::{name}" for domain, name, _ in error.args[1]]
        raise ModelError(
            f"The functions of the model cannot be inlined: they call each other in a cycle, {' → '.join(names)}.",
            hint="Export the model again.",
            functions=names,
        ) from error
