"""Join QConv nodes around depthwise convolutions into QConvChain nodes.

An inverted residual block expands its channels, filters each of them (depthwise) and projects them back. The two maps
in between are the largest of the net, and a depthwise convolution computes little for each byte of them: run one after
the other, the three layers wait for memory. QConvChain computes some rows of the last map at a time and of the others
what these need, so that the wide maps never leave the cache. It gives the same bits as the nodes it replaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.lowering.forms import DOMAIN
from ort_quant_plugin.passes.rewrite import attribute, constant, note_originals, sole_consumer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CHAIN", "join_chains"]

CHAIN = "QConvChain"

_X, _WEIGHTS, _RESIDUALS = 0, 1, 5
_STAGE_INPUTS = 4
_MAX_STAGES = 3


def join_chains(graph: ir.Graph) -> dict[ir.Node, ir.Node]:
    """Replace depthwise QConv nodes and their neighbours by chains, each in the place of its last node.

    Args:
        graph: A lowered graph in topological order.

    Returns:
        The chain by each node that it replaces; the last node of a chain is the chain itself.
    """
    chains: dict[ir.Node, ir.Node] = {}
    for node in list(graph):
        if not _is_depthwise(node) or not _gives_codes_only(node):
            continue
        stages = [node]
        before = _producer(node)
        if before is not None and not _residuals(before):
            stages.insert(0, before)
        behind = sole_consumer(node.outputs[0])
        if behind is not None and not _residuals(node) and _is_pointwise(behind):
            stages.append(behind)
        if len(stages) > 1:
            _join(stages)
            chains.update(dict.fromkeys(stages, stages[-1]))
    return chains


def _is_conv(node: ir.Node | None) -> bool:
    return node is not None and (node.domain, node.op_type) == (DOMAIN, "QConv") and len(_kernel(node)) == 2


def _weights(node: ir.Node) -> tuple[int, ...]:
    weights = constant(node.inputs[_WEIGHTS])
    assert weights is not None  # a layer with any others stays float
    return weights.shape


def _kernel(node: ir.Node) -> tuple[int, ...]:
    return _weights(node)[2:]


def _is_depthwise(node: ir.Node) -> bool:
    return _is_conv(node) and _weights(node)[:2] == (attribute(node, "group", 1), 1)


def _is_pointwise(node: ir.Node) -> bool:
    """Whether it can be the stage behind a depthwise one: it needs each row once, and writes the channels last."""
    strides = attribute(node, "strides", (1, 1))
    assert isinstance(strides, (list, tuple))
    return (
        _is_conv(node)
        and _kernel(node) == (1, 1)
        and attribute(node, "group", 1) == 1
        and set(strides) == {1}
        and attribute(node, "float_layout", "channels_last") == "channels_last"
    )


def _gives_codes_only(node: ir.Node) -> bool:
    """Whether one node reads its ``y`` and there is nothing else to read."""
    y, *others = node.outputs
    return not any(value.name for value in others) and sole_consumer(y) is not None


def _producer(node: ir.Node) -> ir.Node | None:
    """The convolution in front of it, if that has no other reader; the end of a chain is none any more."""
    x = node.inputs[_X]
    producer = None if x is None else x.producer()
    return producer if producer is not None and _is_conv(producer) and _gives_codes_only(producer) else None


def _residuals(node: ir.Node) -> Sequence[ir.Value | None]:
    """Other tensors of its epilogue, which a chain takes for its last stage alone."""
    return node.inputs[_RESIDUALS:]


def _join(stages: Sequence[ir.Node]) -> None:
    """Make the last of these nodes the chain: it keeps its place, its name and its outputs."""
    last = stages[-1]
    inputs: list[ir.Value | None] = [stages[0].inputs[_X]]
    attributes = []
    for number, node in enumerate(stages):
        own = list(node.inputs[_WEIGHTS:_RESIDUALS])
        inputs += own + [None] * (_STAGE_INPUTS - len(own))
        attributes += [ir.Attr(f"stage{number}_{name}", a.type, a.value) for name, a in node.attributes.items()]
    residuals = list(_residuals(last))
    if residuals:
        inputs += [None] * (_STAGE_INPUTS * (_MAX_STAGES - len(stages))) + residuals
    while inputs[-1] is None:
        inputs.pop()
    last.op_type = CHAIN
    last.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        last.replace_input_with(index, value)
    last.attributes.clear()
    last.attributes.update({a.name: a for a in attributes})
    for node in reversed(stages[:-1]):
        note_originals(last, node)
        node.graph.remove(node, safe=True)  # type: ignore[union-attr]
