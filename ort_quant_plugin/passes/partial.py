"""Tensors of which only some elements are known: what ``Shape`` gives when the batch is free.

A :class:`Partial` holds, for every element, a number, or a symbol ("the batch"), or nothing. It is pushed through two
kinds of operators:

* *movement* (Gather, Slice, Concat, Reshape …) only rearranges elements. The operator is computed twice by the
  reference implementation: on the numbers, and on element indices, which tell where each result element came from.
* *element-wise* (Add, Mul, Cast …): a result element is known where all elements it is computed from are known.

Both are exact: no element is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.model import default_opset
from ort_quant_plugin.passes.evaluate import evaluate
from ort_quant_plugin.passes.rewrite import attribute, constant, is_op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.model import Array

__all__ = ["Follower", "Partial"]

MAX_ELEMENTS = 1024
"""Larger tensors are not followed: shapes and pads are short."""

UNKNOWN = ""
"""Symbol of an element about which nothing is known."""

_DATA_INPUTS = {
    "Concat": None,
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "Identity": (0,),
    "Reshape": (0,),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Movement operators and the inputs whose elements they move; the others must be fully known (None = all are moved)."""

_ELEMENTWISE = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater", "Less", "Max", "Min", "Mod", "Mul"}
    | {"Neg", "Not", "Or", "Sub"}
)


@dataclass(frozen=True)
class Partial:
    """A tensor with unknown elements.

    Attributes:
        values: (*) the elements; 1 where unknown.
        symbols: (*) object: ``None`` where known, else the symbol of the element or :data:`UNKNOWN`.
    """

    values: Array
    symbols: NDArray[np.object_]

    @property
    def complete(self) -> bool:
        """Whether every element is known."""
        return all(symbol is None for symbol in self.symbols.flat)

    @classmethod
    def known(cls, array: Array) -> Partial:
        """A tensor known in full."""
        return cls(array, np.full(array.shape, None, dtype=object))


class Follower:
    """Follows partly known tensors through a graph; show it the nodes in topological order."""

    def __init__(self, model: ir.Model) -> None:
        self._opset = default_opset(model)
        self._known: dict[ir.Value, Partial] = {}

    def __getitem__(self, value: ir.Value | None) -> Partial | None:
        """What is known of a value; ``None`` when nothing is. Constants are not looked up here."""
        return None if value is None else self._known.get(value)

    def visit(self, node: ir.Node) -> list[Partial] | None:
        """Compute and remember what is known of the outputs of ``node``; ``None`` when nothing is.

        Only Shape starts a partly known tensor; a node whose inputs are all constant is not followed.

        Raises:
            ValueError: The reference implementation cannot compute the node.
        """
        results = self._results(node)
        if results is not None:
            self._known.update(zip(node.outputs, results, strict=True))
        return results

    def _results(self, node: ir.Node) -> list[Partial] | None:
        if is_op(node, "Shape"):
            result = _of_shape(node)
            return None if result is None else [result]
        if not any(v in self._known for v in node.inputs):
            return None
        inputs = [None if v is None else self._operand(v) for v in node.inputs]
        if any(v is not None and p is None for v, p in zip(node.inputs, inputs, strict=True)):
            return None
        return _propagate(node, inputs, self._opset)

    def _operand(self, value: ir.Value) -> Partial | None:
        if value in self._known:
            return self._known[value]
        small = value.const_value is not None and value.const_value.size <= MAX_ELEMENTS
        array = constant(value) if small else None
        return None if array is None else Partial.known(array)


def _of_shape(node: ir.Node) -> Partial | None:
    """What a Shape node gives, as far as the shape of its input is known."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    start, end = attribute(node, "start", 0), attribute(node, "end", None)
    assert isinstance(start, int)
    assert end is None or isinstance(end, int)
    dims = list(value.shape)[start:end]
    known = [d if isinstance(d, int) and d >= 0 else None for d in dims]
    symbols = np.full(len(dims), None, dtype=object)
    for i, (number, dim) in enumerate(zip(known, dims, strict=True)):
        if number is None:
            symbols[i] = str(dim.value) if isinstance(dim, ir.SymbolicDim) and dim.value is not None else UNKNOWN
    return Partial(np.array([1 if n is None else n for n in known], dtype=np.int64), symbols)


def _propagate(node: ir.Node, inputs: Sequence[Partial | None], opset: int) -> list[Partial] | None:
    if any(p is not None and p.values.size > MAX_ELEMENTS for p in inputs):
        return None
    if is_op(node, *_DATA_INPUTS):
        return _move(node, inputs, opset)
    if is_op(node, *_ELEMENTWISE):
        return _combine(node, inputs, opset)
    return None


def _move(node: ir.Node, inputs: Sequence[Partial | None], opset: int) -> list[Partial] | None:
    data = _DATA_INPUTS[node.op_type] or tuple(range(len(inputs)))
    if any(p is not None and not p.complete for i, p in enumerate(inputs) if i not in data):
        return None
    table: list[object] = []
    origins: list[Array | None] = []
    for i, p in enumerate(inputs):
        if p is None or i not in data:
            origins.append(None if p is None else p.values)
            continue
        origins.append(np.arange(len(table), len(table) + p.values.size).reshape(p.values.shape))
        table.extend(p.symbols.flat)
    values = evaluate(node, [None if p is None else p.values for p in inputs], opset)
    places = evaluate(node, origins, opset)
    results = []
    for value, place in zip(values, places, strict=True):
        symbols = np.full(value.shape, None, dtype=object)
        for index in np.ndindex(value.shape):
            symbols[index] = table[int(place[index])]
        results.append(Partial(value, symbols))
    return results


def _combine(node: ir.Node, inputs: Sequence[Partial | None], opset: int) -> list[Partial]:
    present = [p for p in inputs if p is not None]
    (value,) = evaluate(node, [None if p is None else p.values for p in inputs], opset)
    symbols = np.full(value.shape, None, dtype=object)
    for source in np.broadcast_arrays(*[p.symbols for p in present]):
        symbols[source != None] = UNKNOWN  # noqa: E711 -- element-wise comparison
    if node.op_type == "Cast" and np.issubdtype(value.dtype, np.integer):
        symbols = present[0].symbols  # the same number in another integer type
    return [Partial(value, symbols)]
