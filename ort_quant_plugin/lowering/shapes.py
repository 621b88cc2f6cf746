"""Which dimensions of a graph are fixed, and which tensors have the same shape, whatever size is fed.

Layers need no shapes, but a residual must be known not to broadcast, and a Flatten in front of a Gemm needs the number
of positions. Dynamic graphs say little about that, so they are *probed*: shape inference runs with two assignments of
sizes to the free dimensions. A dimension that comes out the same is fixed; two tensors whose dimensions agree in both
runs have one shape. (Were it otherwise at some third size, the operator's own check would say so: nothing is computed
wrongly.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.passes.infer_shapes import infer_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ASCEND_TYPES", "Shapes"]

ASCEND_TYPES = frozenset({"AscendQuant", "AscendDequant", "AscendAntiQuant"})
"""Operators without an ONNX schema, all of which keep the shape of their first input."""

_BATCH_SIZES = (2, 3)
_OTHER_SIZES = (64, 96)  # smallest multiples of 32 with room for the usual five halvings
Dims = tuple["int | None", ...]


class Shapes:
    """Shapes of the values of a model's main graph, as they are when this object is made."""

    def __init__(self, model: ir.Model) -> None:
        self._probes = [_probe(model, run) for run in range(len(_BATCH_SIZES))]

    def dims(self, value: ir.Value | None) -> Dims | None:
        """Fixed dimensions as numbers, free ones as ``None``; ``None`` when not even the rank is known.

        Where probing tells nothing, the declared rank is believed; declared sizes are not, they go stale.
        """
        if value is None:
            return None
        first, second = (probe.get(str(value.name)) for probe in self._probes)
        if first is None or second is None or len(first) != len(second):
            return None if value.shape is None else (None,) * len(value.shape)
        return tuple(a if a == b else None for a, b in zip(first, second, strict=True))

    def rank(self, value: ir.Value | None) -> int | None:
        """Number of dimensions, ``None`` when unknown."""
        dims = self.dims(value)
        return None if dims is None else len(dims)

    def same(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether both are known to have the same shape."""
        return all(
            (one := probe.get(str(a.name))) is not None and None not in one and one == probe.get(str(b.name))
            for probe in self._probes
        )


def _probe(model: ir.Model, run: int) -> dict[str, Dims]:
    shadow = model.clone()
    sizes: dict[str, int] = {}
    for value in shadow.graph.inputs:
        if value.shape is not None and not value.is_initializer():
            value.shape = ir.Shape([_size(value, axis, dim, sizes, run) for axis, dim in enumerate(value.shape)])
    for node in list(shadow.graph):
        for output in node.outputs:
            output.shape = None
            if not output.is_graph_output():
                output.type = None  # integers that become floats would contradict what is inferred
        if node.op_type in ASCEND_TYPES:
            node.op_type, node.domain = "Identity", ""
            node.attributes.clear()
            node.resize_inputs(1)
    infer_shapes(shadow)
    return {
        str(value.name): tuple(d if isinstance(d, int) else None for d in value.shape)
        for value in _values(shadow.graph)
        if value.shape is not None
    }


def _size(value: ir.Value, axis: int, dim: int | ir.SymbolicDim, sizes: dict[str, int], run: int) -> int:
    """The size of an input's dimension in one run: its own, or one that no other free dimension has."""
    if isinstance(dim, int) and dim > 0:
        return dim
    symbol = None if isinstance(dim, int) else dim.value
    key = symbol if symbol and symbol not in {"?", "*", "None", "-1"} else f"{value.name}:{axis}"
    if key not in sizes:
        taken = len(sizes)
        sizes[key] = _BATCH_SIZES[run] if axis == 0 else _OTHER_SIZES[run] * (1 + taken) * (1 + run)
    return sizes[key]


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs
