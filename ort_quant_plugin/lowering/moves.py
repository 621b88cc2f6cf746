"""Operators that only move values, on tensors whose axes are stored in another order.

A stored tensor has a *permutation*: storage axis ``i`` holds logical axis ``perm[i]``. Channels last is
``(0, 2, …, r−1, 1)``. Moving values commutes with quantization and with permuting axes, so these operators run on the
stored tensor with their axes renamed; a Transpose only changes the permutation and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.passes.rewrite import attribute, constant, is_op

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from ort_quant_plugin.lowering.shapes import Shapes

__all__ = [
    "Move",
    "Perm",
    "carries",
    "channels_last",
    "data_inputs",
    "flatten_order",
    "identity",
    "keeps_rank",
    "plan_move",
]

Perm = tuple[int, ...]

_KEEP_RANK = ("Concat", "Split", "Slice", "Pad", "Resize", "Identity", "Dropout")
_OTHERS = ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten")
_RESIZE_EXTRAS = {"antialias": 0, "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch"}


@dataclass(frozen=True)
class Move:
    """How to do a move on stored tensors.

    Attributes:
        perm: Permutation of the inputs it takes.
        result: Permutation of its outputs.
        copies: False when no operator is needed at all.
        attributes: Attributes that differ from the original node's.
        constants: int64 or float32 arrays that replace inputs of these numbers.
    """

    perm: Perm
    result: Perm
    copies: bool = True
    attributes: dict[str, int | list[int]] = field(default_factory=dict)
    constants: dict[int, NDArray[np.generic]] = field(default_factory=dict)


def channels_last(rank: int) -> Perm:
    """(0, 2, …, rank − 1, 1)."""
    return (0, *range(2, rank), 1)


def identity(rank: int) -> Perm:
    """(0, 1, …, rank − 1)."""
    return tuple(range(rank))


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The tensors that are moved (not the shapes and axes that say how)."""
    values = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return [v for v in values if v is not None]


def keeps_rank(node: ir.Node) -> bool:
    """Whether a move has as many axes behind as in front, in the same order."""
    return is_op(node, *_KEEP_RANK)


def carries(node: ir.Node, shapes: Shapes) -> bool:
    """Whether a node is a move that can be done in any element type and axis order."""
    if not is_op(node, *_KEEP_RANK, *_OTHERS):
        return False
    rank = shapes.rank(node.inputs[0])
    if rank is None or shapes.rank(node.outputs[0]) is None or any(shapes.rank(v) is None for v in data_inputs(node)):
        return False
    if any(constant(v) is not None for v in data_inputs(node)):
        return False
    if node.op_type == "Dropout" and (len(node.inputs) > 2 or any(v.uses() for v in node.outputs[1:])):
        return False
    return plan_move(node, identity(rank), shapes) is not None


def plan_move(node: ir.Node, perm: Perm, shapes: Shapes) -> Move | None:
    """The move on inputs stored with ``perm``; ``None`` when it is not known how.

    The result's ``perm`` may differ from the one asked for: Reshape and Flatten want the logical order.
    """
    if node.op_type in {"Identity", "Dropout"}:
        return Move(perm, perm, copies=False)
    if node.op_type in {"Concat", "Split"}:
        default = None if node.op_type == "Concat" else 0
        axis = attribute(node, "axis", default)
        return None if axis is None else Move(perm, perm, attributes={"axis": perm.index(int(str(axis)) % len(perm))})
    if node.op_type in {"Reshape", "Flatten"}:
        logical, out = identity(len(perm)), shapes.rank(node.outputs[0])
        return None if out is None else Move(logical, identity(out))
    return _PLANNERS[node.op_type](node, perm)


def _transpose(node: ir.Node, perm: Perm) -> Move:
    order = attribute(node, "perm", list(reversed(range(len(perm)))))
    assert isinstance(order, (list, tuple))
    return Move(perm, tuple(list(order).index(axis) for axis in perm), copies=False)


def _axes(node: ir.Node, index: int, rank: int) -> list[int] | None:
    """Axes from the attribute (older opsets) or a constant input, counted from the front."""
    found = attribute(node, "axes")
    if found is None and len(node.inputs) > index and node.inputs[index] is not None:
        found = constant(node.inputs[index])
    return None if found is None else [int(axis) % rank for axis in found]  # type: ignore[attr-defined]  # ints


def _with_axes(node: ir.Node, index: int, axes: list[int], perm: Perm, result: Perm) -> Move:
    if "axes" in node.attributes:
        return Move(perm, result, attributes={"axes": axes})
    return Move(perm, result, constants={index: np.asarray(axes, np.int64)})


def _squeeze(node: ir.Node, perm: Perm) -> Move | None:
    axes = _axes(node, 1, len(perm))
    if axes is None:
        return None
    left = [axis for axis in range(len(perm)) if axis not in axes]
    result = tuple(left.index(axis) for axis in perm if axis in left)
    return _with_axes(node, 1, sorted(perm.index(axis) for axis in axes), perm, result)


def _unsqueeze(node: ir.Node, perm: Perm) -> Move | None:
    found = attribute(node, "axes")
    count = len(found) if isinstance(found, (list, tuple)) else None
    if count is None:
        array = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if array is None:
            return None
        count = array.size
    rank = len(perm) + count
    axes = _axes(node, 1, rank)
    assert axes is not None
    old = [axis for axis in range(rank) if axis not in axes]  # new place of each old axis
    kept = tuple(old[axis] for axis in perm)
    last = channels_last(rank)
    if tuple(axis for axis in last if axis not in axes) == kept:
        result = last  # what layers want
    else:
        storage = iter(kept)
        result = tuple(axis if axis in axes else next(storage) for axis in range(rank))
    return _with_axes(node, 1, sorted(result.index(axis) for axis in axes), perm, result)


def _slice(node: ir.Node, perm: Perm) -> Move | None:
    if "starts" in node.attributes:
        starts = attribute(node, "starts")
        assert isinstance(starts, (list, tuple))
        axes = _axes(node, 99, len(perm)) or list(range(len(starts)))
        return Move(perm, perm, attributes={"axes": [perm.index(axis) for axis in axes]})
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return None
    found, given = _axes(node, 3, len(perm)), constant(node.inputs[3])
    if found is None or given is None:
        return None
    # int32 or int64, as the starts and ends are
    return Move(perm, perm, constants={3: np.asarray([perm.index(axis) for axis in found], given.dtype)})


def _pad(node: ir.Node, perm: Perm) -> Move | None:
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return None
    pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if pads is None or pads.size != 2 * len(perm) or (value is not None and constant(value) is None):
        return None
    ends = pads.reshape(2, -1)[:, list(perm)]
    return Move(perm, perm, constants={1: ends.reshape(-1).astype(np.int64)})


def _resize(node: ir.Node, perm: Perm) -> Move | None:
    if attribute(node, "mode", "nearest") != "nearest" or "axes" in node.attributes or len(node.inputs) < 3:
        return None
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    if any(attribute(node, name, default) != default for name, default in _RESIZE_EXTRAS.items()):
        return None
    for index in (3, 2):
        if len(node.inputs) > index and node.inputs[index] is not None:
            array = constant(node.inputs[index])
            if array is not None and not array.size:
                continue
            if array is None or array.size != len(perm):
                return None
            return Move(perm, perm, constants={index: array[list(perm)]})
    return None


_PLANNERS = {
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
}


def flatten_order(node: ir.Node, perm: Perm, shapes: Shapes) -> NDArray[np.intp] | None:
    """For a move from [N, …] to [N, K]: which logical column each column of the stored rows is.

    ``None`` when the node is something else, or its sizes are not fixed.
    """
    before, after = shapes.dims(node.inputs[0]), shapes.dims(node.outputs[0])
    if before is None or after is None or len(after) != 2 or perm[0] != 0 or len(before) < 2:
        return None
    rest = [d for d in before[1:] if d is not None]
    if len(rest) != len(before) - 1 or after[1] != int(np.prod(rest)):
        return None
    columns = np.arange(after[1]).reshape(rest)
    return columns.transpose([axis - 1 for axis in perm[1:]]).reshape(-1)
