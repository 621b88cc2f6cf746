"""Write the target of a Reshape as ONNX means it where it is known but for free dimensions.

    Reshape(x, Concat(Gather(Shape(x), 0), -1))    →    Reshape(x, [0, -1])

An entry becomes 0 ("copy") where it repeats the dimension of x at the same place, and at most one other free entry
becomes -1 ("what is left"). The arithmetic on ``Shape`` then feeds nothing and is dropped later. Stays as it is: more
than one such entry, and ``allowzero`` = 1, which gives 0 another meaning. (An input without elements cannot be resolved
with a -1 beside a 0; ONNX Runtime refuses an empty batch at such a Reshape.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.infer_shapes import infer_shapes
from ort_quant_plugin.passes.partial import Follower, Partial
from ort_quant_plugin.passes.rewrite import add_initializer, attribute, graph_of, is_op, set_input, unique_name

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FoldReshapes"]

_MAX_ROUNDS = 8


class FoldReshapes:
    """Replaces computed Reshape targets by constants with 0 and -1 where that says the same."""

    name = "fold_reshapes"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Rewrite every Reshape of the main graph whose target allows it."""
        report = PassReport(self.name)
        if not any(is_op(node, "Reshape") for node in model.graph):
            return report
        for _ in range(_MAX_ROUNDS):  # a known target makes shapes known, which make further targets known
            infer_shapes(model)
            done = len(report.changes)
            report.declined.clear()
            self._sweep(model, report)
            if len(report.changes) == done:
                break
        return report

    def _sweep(self, model: ir.Model, report: PassReport) -> None:
        follower = Follower(model)
        for node in list(model.graph):
            if is_op(node, "Reshape"):
                self._rewrite(model, node, follower, report)
            try:
                follower.visit(node)
            except ValueError:  # not computable is not known; fold_constants has reported it
                continue

    def _rewrite(self, model: ir.Model, node: ir.Node, follower: Follower, report: PassReport) -> None:
        data, target = node.inputs[0], follower[node.inputs[1]]
        if target is None or data is None or target.values.ndim != 1:
            return
        if attribute(node, "allowzero", 0):
            report.decline(node.name, "allowzero is 1: its target cannot say 'copy this dimension'")
            return
        entries = _entries(target, data)
        if entries is None:
            report.decline(node.name, "more than one dimension of its target is computed from free dimensions")
            return
        name = unique_name(model, f"{node.name}.shape")
        set_input(node, 1, add_initializer(graph_of(node), name, np.array(entries, dtype=np.int64)))
        report.change(node.name, f"target shape written as {entries}")


def _entries(target: Partial, data: ir.Value) -> list[int] | None:
    dims = [] if data.shape is None else list(data.shape)
    entries: list[int | None] = []
    for i, (number, symbol) in enumerate(zip(target.values.tolist(), target.symbols.tolist(), strict=True)):
        dim = dims[i] if i < len(dims) else None
        if symbol is None:
            entries.append(int(number))
        elif symbol and dim is not None and not isinstance(dim, int) and dim.value == symbol:
            entries.append(0)
        else:
            entries.append(None)
    if entries.count(None) > (0 if -1 in entries else 1):
        return None
    return [-1 if entry is None else entry for entry in entries]
