"""The forms in which tensors exist in the lowered graph, and the operators that lead from one to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.lowering.moves import channels_last, identity
from ort_quant_plugin.passes.rewrite import add_initializer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.lowering.ascend import Code
    from ort_quant_plugin.lowering.demand import Demands
    from ort_quant_plugin.lowering.moves import Perm
    from ort_quant_plugin.lowering.shapes import Shapes
    from ort_quant_plugin.model import Names

__all__ = ["DOMAIN", "Forms", "Stored"]

DOMAIN = "ort_quant"


@dataclass
class Stored:
    """Codes of a tensor, as uint8 values of the lowered graph.

    Attributes:
        by_perm: Values by the axis order in which they are stored.
        order: For rows that were flattened as stored: which logical column each stored column is.
    """

    by_perm: dict[Perm, ir.Value] = field(default_factory=dict)
    order: NDArray[np.intp] | None = None


class Forms:
    """Knows every form made so far, and makes missing ones in front of the node being lowered.

    Attributes:
        at: New nodes go in front of this one.
        first: Values that replace tensors of the deploy graph, once everything is lowered.
        made: Nodes of the lowered graph that were not in the deploy graph, with the names they shall get.
    """

    def __init__(self, graph: ir.Graph, names: Names, shapes: Shapes, demands: Demands) -> None:
        self.at: ir.Node | None = None
        self.first: dict[ir.Value, ir.Value] = {}
        self.made: dict[ir.Node, str] = {}
        self._graph = graph
        self._names = names
        self._shapes = shapes
        self._demands = demands
        self._codes: dict[tuple[ir.Value, Code], Stored] = {}
        self._last: dict[ir.Value, ir.Value] = {}

    # ---- nodes and constants

    def node(
        self,
        op_type: str,
        name: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[ir.Value],
        attributes: Mapping[str, object],
        domain: str = DOMAIN,
    ) -> ir.Node:
        """Place a new node."""
        attrs = [ir.convenience.convert_attribute(key, value) for key, value in attributes.items()]  # type: ignore[arg-type]
        made = ir.Node(domain, op_type, inputs, attrs, outputs=outputs)
        assert self.at is not None
        self._graph.insert_before(self.at, made)
        self.made[made] = name or op_type
        return made

    def constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        """A new initializer."""
        return add_initializer(self._graph, self._names.value(name), array)

    def new_value(self, name: str, like: ir.Value, dtype: ir.DataType, perm: Perm | None = None) -> ir.Value:
        """A value with the shape of ``like``, its axes in the order ``perm``."""
        dims = self._known_dims(like)
        shape = None if dims is None else ir.Shape([dims[axis] for axis in perm or range(len(dims))])
        return ir.Value(name=self._names.value(name), type=ir.TensorType(dtype), shape=shape)

    def _known_dims(self, value: ir.Value) -> list[int | str | None] | None:
        """Fixed dimensions, and the symbols the graph has for the others."""
        dims = self._shapes.dims(value)
        if dims is None:
            return None
        declared = (
            list(value.shape) if value.shape is not None and len(value.shape) == len(dims) else [None] * len(dims)
        )
        symbols = [None if isinstance(d, int) or d is None else d.value for d in declared]
        return [dim if dim is not None else symbol for dim, symbol in zip(dims, symbols, strict=True)]

    # ---- codes

    def store_codes(
        self, value: ir.Value, code: Code, perm: Perm, made: ir.Value, order: NDArray[np.intp] | None = None
    ) -> None:
        """Note codes that exist now."""
        stored = self._codes.setdefault((value, code), Stored())
        stored.by_perm[perm] = made
        stored.order = order

    def alias_codes(self, value: ir.Value, source: ir.Value, code: Code) -> None:
        """Note that two tensors have the same codes."""
        self._codes[value, code] = self.stored(source, code)

    def stored(self, value: ir.Value, code: Code) -> Stored:
        """The codes of a tensor, quantized now if they do not exist."""
        if (value, code) not in self._codes:
            self._quantize(value, code)
        return self._codes[value, code]

    def codes_of(self, value: ir.Value, code: Code, perm: Perm) -> ir.Value:
        """The codes of a tensor in one order of axes."""
        stored = self.stored(value, code)
        if perm not in stored.by_perm:
            have, source = next(iter(stored.by_perm.items()))
            result = self.new_value(f"{source.name}.transposed", value, ir.DataType.UINT8, perm)
            self._permute(value, source, have, result, perm)
            stored.by_perm[perm] = result
        return stored.by_perm[perm]

    def _quantize(self, value: ir.Value, code: Code) -> None:
        wanted = self._demands.of(value).codes.get(code)
        rank = self._shapes.rank(value)
        if rank is None and wanted is not None:
            rank = len(wanted)  # the layer's weight tells
        last = None if rank is None or rank < 3 else channels_last(rank)
        if value in self._last:
            assert last is not None
            source, layout, perm = self._last[value], "same", last
        elif wanted is not None and wanted == last:
            source, layout, perm = self.first_of(value), "channels_first", last
        else:
            source, layout, perm = self.first_of(value), "same", identity(rank or 0)
        result = self.new_value(f"{value.name}.codes", value, ir.DataType.UINT8, perm)
        attributes = {"scale": code.scale, "offset": code.offset, "layout": layout}
        self.node("QuantizeLayout", f"{value.name}.quantize", [source], [result], attributes)
        self.store_codes(value, code, perm, result)

    def dequantize(self, value: ir.Value, source: ir.Value, code: Code, scale: float) -> None:
        """Make the float forms that are demanded of a tensor from the codes of ``source`` (itself or an equal one)."""
        demand = self._demands.of(value)
        rank = self._shapes.rank(value)
        by_perm = self.stored(source, code).by_perm
        last = None if rank is None or rank < 3 else channels_last(rank)
        have_last = last is not None and last in by_perm
        others = any(other != code or (value, other) not in self._codes for other in demand.codes)
        if demand.last or (have_last and others):
            assert last is not None
            self._last[value] = self._real(value, self.codes_of(source, code, last), code, scale, "same", last)
        if demand.first or (others and value not in self._last):
            layout = "channels_first" if have_last else "same"
            logical = identity(rank or 0)
            wanted = last if have_last and last is not None else logical
            self.first[value] = self._real(value, self.codes_of(source, code, wanted), code, scale, layout, logical)

    def _real(self, value: ir.Value, codes: ir.Value, code: Code, scale: float, layout: str, perm: Perm) -> ir.Value:
        result = self.new_value(f"{value.name}.real", value, ir.DataType.FLOAT, perm)
        attributes = {"scale": scale, "offset": code.offset, "layout": layout}
        self.node("DequantizeLayout", f"{value.name}.dequantize", [codes], [result], attributes)
        return result

    # ---- float

    def store_last(self, value: ir.Value, made: ir.Value) -> None:
        """Note a float form with the channels last."""
        self._last[value] = made

    def last_of(self, value: ir.Value) -> ir.Value:
        """Float, channels last."""
        if value not in self._last:
            rank = self._shapes.rank(value)
            assert rank is not None  # nobody asks for it otherwise
            perm = channels_last(rank)
            result = self.new_value(f"{value.name}.last", value, ir.DataType.FLOAT, perm)
            self._permute(value, self.first_of(value), identity(rank), result, perm)
            self._last[value] = result
        return self._last[value]

    def first_of(self, value: ir.Value) -> ir.Value:
        """Float in the graph's own order."""
        if value in self.first:
            return self.first[value]
        if value in self._last:
            rank = self._shapes.rank(value)
            assert rank is not None
            result = self.new_value(f"{value.name}.first", value, ir.DataType.FLOAT)
            self._permute(value, self._last[value], channels_last(rank), result, identity(rank))
            self.first[value] = result
            return result
        return value

    def _permute(self, value: ir.Value, source: ir.Value, have: Perm, result: ir.Value, want: Perm) -> None:
        """Transpose, or Reshape where only axes of size 1 change places, which copies nothing."""
        dims = self._shapes.dims(value) or (None,) * len(want)
        moved = [tuple(axis for axis in perm if dims[axis] != 1) for perm in (have, want)]
        free = [axis for axis in want if dims[axis] is None]
        if moved[0] == moved[1] and len(free) <= 1:
            shape = np.asarray([-1 if dims[axis] is None else dims[axis] for axis in want], np.int64)
            target = self.constant(f"{result.name}.shape", shape)
            self.node("Reshape", f"{result.name}.reshape", [source, target], [result], {}, domain="")
            return
        order = [have.index(axis) for axis in want]
        self.node("Transpose", f"{result.name}.transpose", [source], [result], {"perm": order}, domain="")
