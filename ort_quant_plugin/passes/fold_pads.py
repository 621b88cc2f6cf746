"""Let a convolution do its own zero padding.

    Conv(Pad(x, p, value 0), pads q)    →    Conv(x, pads p + q)

A convolution pads with zeros itself, so begins and ends of the spatial axes just add up; p and q may be asymmetric.
Declined: other modes and values, padded batch or channel axes, negative pads, ``auto_pad`` SAME (its own pads depend on
the size of the input that the Pad changes), pads that are not constant, and readers that are no Conv: an AveragePool
counts padding differently, a MaxPool pads with -inf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import attribute, constant, consumers, graph_of, is_op, remove_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.model import Array

__all__ = ["FoldPads"]


class FoldPads:
    """Folds constant zero padding into the Conv nodes that read it."""

    name = "fold_pads"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Fold every Pad whose readers are all Conv nodes."""
        report = PassReport(self.name)
        for node in list(model.graph):
            if not is_op(node, "Pad"):
                continue
            try:
                pads = _spatial_pads(node)
                convs = _readers(node)
                new_pads = [_added(conv, pads) for conv in convs]
            except _DeclinedError as reason:
                report.decline(node.name, str(reason))
                continue
            source = node.inputs[0]
            assert source is not None
            for conv, total in zip(convs, new_pads, strict=True):
                conv.attributes["pads"] = ir.AttrInt64s("pads", total)
                conv.attributes.pop("auto_pad", None)
                report.change(conv.name, f"took over the padding of {node.name!r}; pads are {total} now")
            node.outputs[0].replace_all_uses_with(source)
            remove_node(node)
        return report


class _DeclinedError(Exception):
    """Why a Pad stays."""


def _spatial_pads(node: ir.Node) -> list[int]:
    """Pads of the spatial axes in Conv's order: begins, then ends."""
    mode = attribute(node, "mode", "constant")
    if mode != "constant":
        raise _DeclinedError(f"its mode is {mode!r}; only constant padding is folded")
    if len(node.inputs) > 1:
        pads, value = constant(node.inputs[1]), _operand(node, 2, 0.0)
    else:
        pads, value = np.array(attribute(node, "pads", ())), np.array(attribute(node, "value", 0.0))
    if pads is None or value is None:
        raise _DeclinedError("its pads or its value are not constant")
    if np.any(value != 0):
        raise _DeclinedError(f"it pads with {value.item()}; only padding with 0 is folded")
    begins, ends = pads[: pads.size // 2].tolist(), pads[pads.size // 2 :].tolist()
    axes = _axes(node, len(begins))
    rank = max([len(begins), *(axis + 1 for axis in axes)])
    full = {axis: (begin, end) for axis, begin, end in zip(axes, begins, ends, strict=True)}
    ordered = [full.get(axis, (0, 0)) for axis in range(rank)]
    if any(pair != (0, 0) for pair in ordered[:2]):
        raise _DeclinedError("it pads the batch or the channel axis")
    if any(side < 0 for pair in ordered for side in pair):
        raise _DeclinedError("it has negative pads")
    return [begin for begin, _ in ordered[2:]] + [end for _, end in ordered[2:]]


def _operand(node: ir.Node, index: int, default: float) -> Array | None:
    if index >= len(node.inputs) or node.inputs[index] is None:
        return np.array(default)
    return constant(node.inputs[index])


def _axes(node: ir.Node, count: int) -> list[int]:
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return list(range(count))
    axes = constant(node.inputs[3])
    source = node.inputs[0]
    rank = None if source is None or source.shape is None else len(source.shape)
    numbers: list[int] = [] if axes is None else axes.tolist()
    if axes is None or (rank is None and min(numbers) < 0):
        raise _DeclinedError("its axes are not known")
    return [axis % rank if rank else axis for axis in numbers]


def _readers(node: ir.Node) -> list[ir.Node]:
    output = node.outputs[0]
    if output.is_graph_output():
        raise _DeclinedError(f"its output {output.name!r} is a graph output")
    readers = consumers(output)
    graph = graph_of(node)
    stranger = next(
        (r for r in readers if not is_op(r, "Conv") or r.graph is not graph or r.inputs[0] is not output), None
    )
    if stranger is not None:
        raise _DeclinedError(f"{stranger.op_type} {stranger.name!r} reads it, which does not pad like a Conv")
    return readers


def _added(conv: ir.Node, pads: list[int]) -> list[int]:
    auto = attribute(conv, "auto_pad", "NOTSET")
    if auto not in {"NOTSET", "VALID"}:
        raise _DeclinedError(f"Conv {conv.name!r} has auto_pad {auto}")
    weight = conv.inputs[1]
    rank = None if weight is None or weight.shape is None else len(weight.shape) - 2
    if rank is None:
        raise _DeclinedError(f"the rank of Conv {conv.name!r} is not known")
    own = [0] * (2 * rank)
    if auto == "NOTSET":
        own = list(cast("Sequence[int]", attribute(conv, "pads", own)))
    half = len(pads) // 2
    begins = pads[:half] + [0] * (rank - half)
    ends = pads[half:] + [0] * (rank - half)
    if len(begins) != rank or len(own) != 2 * rank:
        raise _DeclinedError(f"it pads {half} spatial axes, but Conv {conv.name!r} has {rank}")
    return [a + b for a, b in zip(own, begins + ends, strict=True)]
