"""Which element-wise operators run in a layer's epilogue.

A layer's result is *value 0*. Walking forward, every operator whose inputs are earlier values, constants (one number,
or one a channel) or at most two other tensors of the same shape (*residuals*) becomes a step. The program may end only
where nothing outside of it reads any value but the last: that also rules out cycles. Every step is one float32
operation, the same that ONNX Runtime performs, so nothing is rounded otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.dataflow import clip_bounds
from ort_quant_plugin.passes.rewrite import attribute, constant, is_op

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from ort_quant_plugin.lowering.shapes import Shapes

__all__ = ["Program", "absorb", "literal"]

MAX_STEPS = 16
MAX_RESIDUALS = 2
_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_ABSORBED = (*_BINARY, "Relu", "Clip", "LeakyRelu", "HardSigmoid", "HardSwish", "Identity")


@dataclass
class Program:
    """Steps of an epilogue, in static single assignment: value i is the result of step i.

    Attributes:
        steps: ``add 0 r0`` …: operands are value numbers, ``r0``/``r1``, ``c0``… or float32 literals.
        residuals: Tensors added in, in the order of their numbers.
        channels: Constants of one number a channel, float32 (M,) each.
        final: The last value.
        nodes: Operators it replaces, in order.
    """

    final: ir.Value
    steps: list[str] = field(default_factory=list)
    residuals: list[ir.Value] = field(default_factory=list)
    channels: list[NDArray[np.float32]] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)

    def text(self) -> str:
        """The attribute ``epilogue``."""
        return ";".join(self.steps)

    def channel_constants(self) -> NDArray[np.float32] | None:
        """float32 [n, M], ``None`` when there are none."""
        return np.stack(self.channels) if self.channels else None


def literal(value: float | np.floating) -> str:
    """Shortest decimal that reads back as the same float32; never an integer, which would name a value."""
    text = str(np.float32(value))
    return text if any(mark in text for mark in ".einf") else f"{text}.0"


def absorb(
    value: ir.Value,
    channel_axis: int | None,
    order: Mapping[ir.Node, int],
    claimed: Collection[ir.Node],
    shapes: Shapes,
) -> Program:
    """Find the longest program that starts at ``value``.

    Args:
        value: The layer's result.
        channel_axis: Axis of its channels, ``None`` if there are no constants per channel.
        order: Positions of the nodes of the graph, which are sorted topologically.
        claimed: Nodes that other layers replace.
        shapes: Shapes of the graph.
    """
    builder = _Builder(value, channel_axis, claimed, shapes)
    best = Program(value)
    waiting = _readers(value, order)
    seen = set(waiting)
    while waiting:
        node = min(waiting, key=order.__getitem__)
        waiting.remove(node)
        if not builder.take(node):
            continue
        fresh = _readers(node.outputs[0], order) - seen
        waiting |= fresh
        seen |= fresh
        if builder.closed():
            best = builder.snapshot()
    return best


def _readers(value: ir.Value, order: Mapping[ir.Node, int]) -> set[ir.Node]:
    return {use.node for use in value.uses() if use.node in order}


class _Builder:
    def __init__(self, value: ir.Value, channel_axis: int | None, claimed: Collection[ir.Node], shapes: Shapes) -> None:
        self.start = value
        self.program = Program(value)
        self.numbers: dict[ir.Value, int] = {value: 0}
        self.claimed = claimed
        self.shapes = shapes
        self.dims = shapes.dims(value)
        self.axis = channel_axis

    def take(self, node: ir.Node) -> bool:
        """Append the steps of one operator if it can be one."""
        if node in self.claimed or not is_op(node, *_ABSORBED) or len(node.outputs) != 1:
            return False
        kept = len(self.program.residuals), len(self.program.channels)
        steps = self._steps(node)
        if steps is None or len(self.program.steps) + len(steps) > MAX_STEPS:
            del self.program.residuals[kept[0] :]
            del self.program.channels[kept[1] :]
            return False
        self.program.steps += steps
        if is_op(node, "Identity"):
            self.numbers[node.outputs[0]] = self.numbers[node.inputs[0]]  # type: ignore[index]  # _steps checked it
        else:
            self.numbers[node.outputs[0]] = len(self.program.steps)
        self.program.nodes.append(node)
        self.program.final = node.outputs[0]
        return True

    def closed(self) -> bool:
        """Whether nothing outside reads a value before the last, and the last is the last step's."""
        inside = set(self.program.nodes)
        final = self.program.final
        if self.numbers[final] != len(self.program.steps):
            return False
        return all(
            v is final or not (v.is_graph_output() or any(use.node not in inside for use in v.uses()))
            for v in self.numbers
        )

    def snapshot(self) -> Program:
        """A copy of the program so far."""
        made = self.program
        return Program(made.final, list(made.steps), list(made.residuals), list(made.channels), list(made.nodes))

    def _steps(self, node: ir.Node) -> list[str] | None:
        if node.op_type in _BINARY:
            operands = [self._operand(value) for value in node.inputs]
            return None if None in operands else [f"{_BINARY[node.op_type]} {operands[0]} {operands[1]}"]
        x = self.numbers.get(node.inputs[0]) if node.inputs[0] is not None else None
        if x is None:
            return None
        return _unary_steps(node, x, len(self.program.steps) + 1)

    def _operand(self, value: ir.Value | None) -> str | None:
        if value is None:
            return None
        if value in self.numbers:
            return str(self.numbers[value])
        array = constant(value)
        if array is not None:
            return self._constant(array)
        if value in self.program.residuals:
            return f"r{self.program.residuals.index(value)}"
        if len(self.program.residuals) == MAX_RESIDUALS or not self.shapes.same(value, self.start):
            return None
        self.program.residuals.append(value)
        return f"r{len(self.program.residuals) - 1}"

    def _constant(self, array: NDArray[np.generic]) -> str | None:
        rank = None if self.dims is None else len(self.dims)
        if array.dtype != np.float32 or not array.size or (array.ndim and (rank is None or array.ndim > rank)):
            return None
        if array.size == 1:
            number = np.float32(array.reshape(-1)[0])
            return None if np.isnan(number) else literal(number)
        if rank is None or self.axis is None or self.dims is None:
            return None
        axis = self.axis % rank
        shape = (1,) * (rank - array.ndim) + array.shape
        if self.dims[axis] != array.size or shape[axis] != array.size:
            return None
        row = array.reshape(-1).astype(np.float32)
        for number, known in enumerate(self.program.channels):
            if np.array_equal(known.view(np.uint32), row.view(np.uint32)):
                return f"c{number}"
        self.program.channels.append(row)
        return f"c{len(self.program.channels) - 1}"


def _unary_steps(node: ir.Node, x: int, first: int) -> list[str] | None:
    """Steps of an operator on value ``x``, the first of which gets number ``first``."""
    if node.op_type == "Identity":
        return []
    if node.op_type == "Relu":
        return [f"relu {x}"]
    if node.op_type == "Clip":
        bounds = clip_bounds(node)
        return None if bounds is None else [f"clip {x} {literal(bounds[0])} {literal(bounds[1])}"]
    if node.op_type == "LeakyRelu":
        return [f"leaky_relu {x} {literal(_number(node, 'alpha', 0.01))}"]
    if node.op_type == "HardSigmoid":
        return _hard_sigmoid(x, first, _number(node, "alpha", 0.2), _number(node, "beta", 0.5))
    return [*_hard_sigmoid(x, first, float(np.float32(1) / np.float32(6)), 0.5), f"mul {x} {first + 2}"]


def _hard_sigmoid(x: int, first: int, alpha: float, beta: float) -> list[str]:
    return [f"mul {x} {literal(alpha)}", f"add {first} {literal(beta)}", f"clip {first + 1} 0.0 1.0"]


def _number(node: ir.Node, name: str, default: float) -> float:
    return float(str(attribute(node, name, default)))
