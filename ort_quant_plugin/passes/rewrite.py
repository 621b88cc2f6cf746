"""Graph surgery that several passes share: constants, attributes, names, and taking nodes out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from ort_quant_plugin.model import Names, const_array

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ort_quant_plugin.model import Array

__all__ = [
    "add_initializer",
    "attribute",
    "bypass",
    "constant",
    "consumers",
    "graph_of",
    "is_constant",
    "is_op",
    "label",
    "note_originals",
    "original_names",
    "remove_node",
    "set_input",
    "sole_consumer",
    "take_over",
    "unique_name",
]

_ORIGINALS_KEY = "ort_quant.original_names"


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether ``node`` is one of these operators of the default domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def label(node: ir.Node) -> str:
    """How a message calls a node: its name, or its operator when it has none yet."""
    return node.name or node.op_type


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that holds ``node``."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return graph


def is_constant(value: ir.Value | None) -> bool:
    """Whether the content is fixed: an initializer that no caller can override, or a Constant node's output."""
    return value is not None and not value.is_graph_input() and ir.convenience.get_const_tensor(value) is not None


def constant(value: ir.Value | None) -> Array | None:
    """The content of a constant value (see :func:`is_constant`), else ``None``; maps external data."""
    return const_array(value) if is_constant(value) else None


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """The Python value of an attribute, or ``default``."""
    attr = node.attributes.get(name)
    return default if attr is None or attr.is_ref() else attr.value


def consumers(value: ir.Value) -> list[ir.Node]:
    """Nodes that read ``value``, in bodies of If, Loop and Scan too; a node that reads it twice counts twice."""
    return [use.node for use in value.uses()]


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The only reader of ``value`` when it lies in the same graph and ``value`` is no graph output, else ``None``."""
    readers = consumers(value)
    if len(readers) != 1 or value.is_graph_output() or readers[0].graph is not value.graph:
        return None
    return readers[0]


def unique_name(model: ir.Model, wanted: str) -> str:
    """``wanted``, or ``wanted_1``, ``wanted_2`` … if a value of the model (bodies included) has that name."""
    return Names(model).value(wanted)


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Make a constant of this content."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    """Replace input ``index``; missing optional inputs before it become empty."""
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def remove_node(node: ir.Node) -> None:
    """Take a node without readers out of its graph, and the constants that only it read."""
    graph = graph_of(node)
    inputs = list(dict.fromkeys(v for v in node.inputs if v is not None))
    graph.remove(node, safe=True)
    _drop_unused(graph, inputs)


def _drop_unused(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    for value in values:
        used = value.uses() or value.is_graph_output() or value.is_graph_input()
        if value.is_initializer() and not used and graph.initializers.get(str(value.name)) is value:
            del graph.initializers[str(value.name)]


def take_over(node: ir.Node, last: ir.Node) -> None:
    """Let ``node`` produce what ``last`` produced: its output takes name, readers and graph-output place of ``last``'s.

    ``last`` reads ``node``'s output (directly or through nodes already removed) and is taken out.
    """
    old, new = last.outputs[0], node.outputs[0]
    name = old.name
    new.shape, new.type = old.shape or new.shape, old.type or new.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    remove_node(last)
    new.name = name


def bypass(node: ir.Node) -> str | None:
    """Take out a node that passes its first input on unchanged.

    Returns:
        ``None`` when done, else why not: the graph output it feeds would lose its own value.
    """
    source, result = node.inputs[0], node.outputs[0]
    if source is None:
        return "it has no input"
    if result.is_graph_output():
        producer = source.producer()
        if producer is None or source.is_graph_output() or source.graph is not node.graph:
            return f"it gives graph output {result.name!r} a value that another name holds too"
        take_over_source(source, node)
        return None
    result.replace_all_uses_with(source)
    remove_node(node)
    return None


def take_over_source(source: ir.Value, node: ir.Node) -> None:
    """Make ``source`` the graph output that ``node`` (a pure copy) produced."""
    result = node.outputs[0]
    name = result.name
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    remove_node(node)
    source.name = name


def note_originals(node: ir.Node, absorbed: ir.Node) -> None:
    """Remember in the node's metadata which nodes of the user's model it stands for now."""
    names = [*original_names(node), *original_names(absorbed)]
    node.metadata_props[_ORIGINALS_KEY] = json.dumps(names)


def original_names(node: ir.Node) -> list[str]:
    """Names of the nodes of the user's model that ``node`` stands for: its own, then those fused into it, in order."""
    text = node.metadata_props.get(_ORIGINALS_KEY)
    return cast("list[str]", json.loads(text)) if text else [str(node.name)]
