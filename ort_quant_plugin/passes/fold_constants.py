"""Compute at once what does not depend on the inputs.

1. A node whose inputs are all constant becomes a constant:      f(c₁, c₂)  →  c
2. Shape arithmetic whose result does not depend on the free dimensions becomes a constant too, although ``Shape``
   itself does: with x of shape (N, 3, 224, 224), ``Gather(Shape(x), 2)`` is 224 whatever N is. So the padding and
   resizing chains that exporters write for static models vanish, also when the batch is free.

Never folded: random operators, operators with bodies, anything inside bodies, anything that would grow the model by
more than a MiB. A folded value keeps its name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ort_quant_plugin.model import default_opset
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.evaluate import FOLDABLE, evaluate
from ort_quant_plugin.passes.infer_shapes import infer_shapes
from ort_quant_plugin.passes.partial import Follower
from ort_quant_plugin.passes.rewrite import add_initializer, constant, graph_of, is_constant, remove_node

if TYPE_CHECKING:
    import onnx_ir as ir

    from ort_quant_plugin.model import Array

__all__ = ["MAX_GROWTH", "FoldConstants"]

MAX_GROWTH = 1 << 20
"""Bytes by which a folded result may exceed the constants it is computed from."""

_MAX_ROUNDS = 8
_GROWING = frozenset({"ConstantOfShape", "Expand", "Pad", "Range", "Tile"})


class FoldConstants:
    """Computes nodes with constant inputs and shape arithmetic that does not depend on free dimensions."""

    name = "fold_constants"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Fold until nothing changes: a constant makes shapes known, which make further constants."""
        report = PassReport(self.name)
        for _ in range(_MAX_ROUNDS):
            sweep = _Sweep(model)
            sweep.run()
            report.changes += sweep.report.changes
            report.declined = sweep.report.declined
            if not sweep.report.changes:
                break
            infer_shapes(model)
        return report


class _Sweep:
    """One walk over the main graph in topological order."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._opset = default_opset(model)
        self._follower = Follower(model)
        self.report = PassReport(FoldConstants.name)

    def run(self) -> None:
        for node in list(self._model.graph):
            if node.domain != "" or not node.outputs:
                continue
            try:
                self._visit(node)
            except ValueError as error:
                self.report.decline(node.name, f"the reference implementation of {node.op_type} failed: {error}")

    def _visit(self, node: ir.Node) -> None:
        if node.op_type not in FOLDABLE:
            if _all_constant(node):
                self.report.decline(node.name, f"{node.op_type} is not computed offline")
            return
        results = self._follower.visit(node)
        if results is not None and all(result.complete for result in results):
            self._replace(node, [result.values for result in results])
        elif results is None and _all_constant(node):
            refusal = _too_large(node)
            if refusal:
                self.report.decline(node.name, refusal)
            else:
                self._replace(node, evaluate(node, [constant(v) for v in node.inputs], self._opset))

    def _replace(self, node: ir.Node, arrays: list[Array]) -> None:
        kept = [v.name for v in node.outputs if v.is_graph_output()]
        if kept:
            self.report.decline(node.name, f"its output {kept[0]!r} is a graph output")
            return
        graph = graph_of(node)
        for value, array in zip(node.outputs, arrays, strict=True):
            if value.uses():
                value.replace_all_uses_with(add_initializer(graph, str(value.name), array))
        remove_node(node)
        shapes = ", ".join(str(list(a.shape)) for a in arrays)
        self.report.change(node.name, f"{node.op_type} computed offline, a constant of shape {shapes}")


def _all_constant(node: ir.Node) -> bool:
    return all(v is None or is_constant(v) for v in node.inputs) and any(v is not None for v in node.inputs)


def _too_large(node: ir.Node) -> str | None:
    """Why folding would grow the model too much; judged from inferred shapes, before anything is computed."""
    used = sum(v.const_value.nbytes for v in node.inputs if v is not None and v.const_value is not None)
    for value in node.outputs:
        if not value.uses():
            continue
        if value.shape is None or not value.shape.is_static():
            if node.op_type in _GROWING:
                return f"the size of {value.name!r} is not known beforehand"
            continue
        size = math.prod(int(d) for d in value.shape if isinstance(d, int))
        growth = size * (value.dtype.itemsize if value.dtype is not None else 8) - used
        if growth > MAX_GROWTH:
            return f"its result would add {growth / MAX_GROWTH:.1f} MiB to the model"
    return None
