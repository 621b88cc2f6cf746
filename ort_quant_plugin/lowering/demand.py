"""Decide in which forms every tensor is needed, from the outputs back to the inputs.

A tensor of the deploy graph can exist as codes (uint8, one form for each quantization), as float in the order the graph
has (*first*: channels first), and as float channels last (*last*). Layers ask for codes of what their quantizer reads
and for residuals channels last; data movement passes a demand for codes on when nobody wants its result in float;
element-wise operators of ONNX Runtime follow their neighbours' layout; everything else asks for *first*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.lowering.ascend import Code, Layer, anti_scale, code_of, is_ascend, quantizer_of
from ort_quant_plugin.lowering.moves import carries, channels_last, data_inputs, identity, keeps_rank, plan_move
from ort_quant_plugin.passes.rewrite import attribute, constant, is_op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx_ir as ir

    from ort_quant_plugin.lowering.epilogue import Program
    from ort_quant_plugin.lowering.moves import Perm
    from ort_quant_plugin.lowering.shapes import Shapes

__all__ = ["Demand", "Demands", "Unit", "round_trips"]

_ELEMENTWISE = frozenset(
    {"Abs", "Add", "Ceil", "Clip", "Div", "Erf", "Floor", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min", "Mul"}
    | {"Neg", "PRelu", "Reciprocal", "Relu", "Round", "Sigmoid", "Sqrt", "Sub", "Tanh", "ThresholdedRelu"}
)
_SPATIAL_RANK = 4
"""Fewer dimensions and a tensor is not taken for an image: it keeps the order it has."""


@dataclass
class Unit:
    """A layer with its epilogue: one operator of the lowered graph.

    Attributes:
        layer: The layer.
        program: What its epilogue computes; the unit's result is ``program.final``.
    """

    layer: Layer
    program: Program

    @property
    def spatial(self) -> bool:
        """Whether its activations have channels and positions."""
        return self.layer.kind != "QGemm"

    @property
    def sources(self) -> list[tuple[ir.Value, Code]]:
        """What its quantizers read, and how they quantize it."""
        found = [(quant.inputs[0], code_of(quant)) for quant in self.layer.quants]
        return [(value, code) for value, code in found if value is not None]


@dataclass
class Demand:
    """In which forms a tensor is needed.

    Attributes:
        codes: Quantizations, each with the axis order its first reader would like (``None``: any).
        first: Float in the graph's own order.
        last: Float, channels last.
    """

    codes: dict[Code, Perm | None] = field(default_factory=dict)
    first: bool = False
    last: bool = False

    def __bool__(self) -> bool:
        return bool(self.codes) or self.first or self.last

    def want(self, code: Code, perm: Perm | None) -> None:
        """Ask for codes."""
        self.codes[code] = self.codes.get(code) or perm


class Demands:
    """The demands of a graph whose layers are known.

    Attributes:
        carried: Data movement done on codes, with the quantizations it is done for.
        last: Operators done on float tensors with the channels last.
        origins: Tensors that a dequantizer made (directly or behind data movement): their code and its scale.
    """

    def __init__(self, graph: ir.Graph, units: Sequence[Unit], shapes: Shapes) -> None:
        self._shapes = shapes
        self._of: dict[ir.Value, Demand] = {}
        self.finals = {unit.program.final: unit for unit in units}
        self.inner = {node for unit in units for node in (*unit.layer.inner, *unit.program.nodes)}
        self.carried: dict[ir.Node, tuple[Code, ...]] = {}
        self.last: set[ir.Node] = set()
        self.origins: dict[ir.Value, tuple[Code, float]] = {}
        self._native: set[ir.Value] = set()
        nodes = list(graph)
        for node in nodes:
            self._look_forward(node)
        for value in graph.outputs:
            self.of(value).first = True
        self._serve_bodies(graph, nodes)
        for node in reversed(nodes):
            self._look_back(node)

    def of(self, value: ir.Value) -> Demand:
        """The demand for a tensor."""
        return self._of.setdefault(value, Demand())

    def unit_of(self, node: ir.Node) -> Unit | None:
        """The unit whose result ``node`` makes."""
        return next((self.finals[v] for v in node.outputs if v in self.finals), None)

    def _serve_bodies(self, graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
        """What bodies of If, Loop and Scan read keeps its form."""
        for value in [*graph.inputs, *(v for node in nodes for v in node.outputs)]:
            if any(use.node.graph is not graph for use in value.uses()):
                self.of(value).first = True

    def _look_forward(self, node: ir.Node) -> None:
        """Note which results come with the channels last by themselves, and which come from codes."""
        unit = self.unit_of(node)
        if unit is not None:
            if unit.spatial and (unit.layer.kind != "QAdd" or self._is_spatial(unit.program.final)):
                self._native.add(unit.program.final)
        elif node in self.inner:
            return
        elif is_ascend(node, "AscendAntiQuant"):
            quant = quantizer_of(node.inputs[0])
            if quant is not None and round_trips(code_of(quant), anti_scale(node)):
                self.origins[node.outputs[0]] = code_of(quant), anti_scale(node)
            if self._is_spatial(node.outputs[0]):
                self._native.add(node.outputs[0])
        elif self.moves(node):
            found = [self.origins.get(v) for v in data_inputs(node)]
            if found and found[0] is not None and all(o == found[0] for o in found):
                self.origins.update((v, found[0]) for v in node.outputs)
            if keeps_rank(node) and any(v in self._native for v in data_inputs(node)):
                self._native.update(node.outputs)
        elif self._elementwise(node) and any(v in self._native for v in node.inputs):
            self._native.update(node.outputs)

    def moves(self, node: ir.Node) -> bool:
        """Whether codes can be carried through a node."""
        return carries(node, self._shapes) or self.pools(node)

    def pools(self, node: ir.Node) -> bool:
        """Whether a node is a MaxPool that QPool computes."""
        return (
            is_op(node, "MaxPool")
            and len([v for v in node.outputs if v.uses() or v.is_graph_output()]) == 1
            and self._shapes.rank(node.inputs[0]) in {3, 4, 5}
            and attribute(node, "storage_order", 0) == 0
        )

    def _elementwise(self, node: ir.Node) -> bool:
        """Whether an operator gives the same whatever the order of axes: all its tensors have one rank."""
        if node.domain != "" or node.op_type not in _ELEMENTWISE:
            return False
        ranks = {self._shapes.rank(v) for v in node.inputs if v is not None and constant(v) is None}
        rank = self._shapes.rank(node.outputs[0])
        return ranks == {rank} and rank is not None and rank > 2

    def _is_spatial(self, value: ir.Value | None) -> bool:
        rank = self._shapes.rank(value)
        return rank is not None and rank >= _SPATIAL_RANK

    def _look_back(self, node: ir.Node) -> None:
        unit = self.unit_of(node)
        if unit is not None:
            if self.of(unit.program.final):
                self._demand_of_unit(unit)
        elif node in self.inner or is_ascend(node, "AscendQuant"):
            return  # readers of a quantizer ask for what it reads
        elif is_ascend(node, "AscendAntiQuant"):
            if self.of(node.outputs[0]):
                self._want_source(node)
        elif self.moves(node):
            self._demand_of_move(node)
        else:
            wanted = [self.of(v) for v in node.outputs]
            native = any(v in self._native for v in node.outputs)
            self._take_float(node, last=native and any(d.last or d.codes for d in wanted) and self._elementwise(node))

    def _take_float(self, node: ir.Node, *, last: bool) -> None:
        if last:
            self.last.add(node)
        for value in node.inputs:
            if value is None or constant(value) is not None:
                continue
            if last and (self._elementwise(node) or value in data_inputs(node)):
                self.of(value).last = True
            else:
                self.of(value).first = True

    def _demand_of_unit(self, unit: Unit) -> None:
        for value, code in unit.sources:
            self.of(value).want(code, self.perm_for(unit, value))
        for value in unit.program.residuals:
            if unit.program.final in self._native:
                self.of(value).last = True
            else:
                self.of(value).first = True

    def perm_for(self, unit: Unit, value: ir.Value) -> Perm:
        """The axis order in which a unit reads its input."""
        rank = 2 if unit.layer.node.op_type == "Gemm" else self._shapes.rank(value)
        if unit.spatial and unit.layer.weight is not None:
            rank = unit.layer.weight.ndim
        assert rank is not None  # the layer would have been refused
        return channels_last(rank) if unit.program.final in self._native else identity(rank)

    def _want_source(self, node: ir.Node) -> None:
        quant = quantizer_of(node.inputs[0])
        assert quant is not None
        assert quant.inputs[0] is not None
        rank = self._shapes.rank(quant.inputs[0])
        perm = channels_last(rank) if rank is not None and rank >= _SPATIAL_RANK else None
        self.of(quant.inputs[0]).want(code_of(quant), perm)

    def _demand_of_move(self, node: ir.Node) -> None:
        wanted = [self.of(v) for v in node.outputs]
        if not any(wanted):
            return
        codes: dict[Code, Perm | None] = {}
        for demand in wanted:
            for code, perm in demand.codes.items():
                codes[code] = codes.get(code) or perm
        floats = any(d.first or d.last for d in wanted)
        origin = self.origins.get(node.outputs[0])
        if floats and origin is not None:
            codes.setdefault(origin[0], None)
        if codes and (not floats or origin is not None):
            self.carried[node] = tuple(codes)
            for value in data_inputs(node):
                for code, perm in codes.items():
                    self.of(value).want(code, self._perm_before(node, value, perm))
            for other in node.inputs:
                if other is not None and other not in data_inputs(node) and constant(other) is None:
                    self.of(other).first = True
            return
        native = node.outputs[0] in self._native and keeps_rank(node)
        self._take_float(node, last=native and any(d.last or d.codes for d in wanted))

    def _perm_before(self, node: ir.Node, value: ir.Value, perm: Perm | None) -> Perm | None:
        """The axis order a move's input should have for its result to have ``perm``."""
        rank = self._shapes.rank(value)
        assert rank is not None  # moves() asked for it
        if self.pools(node):
            return channels_last(rank)
        if perm is None or node.op_type in {"Reshape", "Flatten"}:
            return None
        if keeps_rank(node):
            return perm
        for candidate in (identity(rank), channels_last(rank)):
            move = plan_move(node, candidate, self._shapes)
            if move is not None and move.result == perm:
                return candidate
        return None


def round_trips(code: Code, scale: float) -> bool:
    """Whether quantizing what was dequantized with ``scale`` gives every code back."""
    q = np.arange(-128, 128, dtype=np.float32)
    real = (q - np.float32(code.offset)) * np.float32(scale)
    again = np.clip(np.rint(real * np.float32(code.scale)) + np.float32(code.offset), -128, 127)
    return bool((again == q).all())
