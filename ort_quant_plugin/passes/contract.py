"""What must hold after every pass; the frame checks it, so that no pass has to be trusted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Signature", "bodies", "faults", "undefined_values"]


@dataclass(frozen=True)
class Signature:
    """The outside of a model.

    Attributes:
        required: Names of the inputs a caller must feed (no initializer gives a default), in order.
        outputs: Names of the outputs, in order.
    """

    required: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, model: ir.Model) -> Signature:
        """Read the signature of a model."""
        graph = model.graph
        return cls(
            tuple(str(v.name) for v in graph.inputs if not v.is_initializer()),
            tuple(str(v.name) for v in graph.outputs),
        )


def faults(model: ir.Model, signature: Signature) -> dict[str, str]:
    """Broken rules of a model, by rule name: what is wrong, naming the first offender.

    Rules: ``inputs``, ``outputs`` (unchanged), ``defined`` (every value read exists), ``sorted`` (and is made before it
    is read, as ONNX wants), ``node_names`` and ``value_names`` (not empty, unique in the main graph).
    """
    found: dict[str, str] = {}
    now = Signature.of(model)
    if now.required != signature.required:
        found["inputs"] = f"the required inputs are {list(now.required)}; expected {list(signature.required)}"
    if now.outputs != signature.outputs:
        found["outputs"] = f"the outputs are {list(now.outputs)}; expected {list(signature.outputs)}"
    missing = undefined_values(model)
    if missing:
        found["defined"] = missing[0]
    disorder = _first_unsorted(model.graph, set())
    if disorder:
        found["sorted"] = disorder
    found.update(_name_faults(model.graph))
    return found


def _name_faults(graph: ir.Graph) -> dict[str, str]:
    found = {}
    nodes = Counter(node.name for node in graph)
    nameless = next((node for node in graph if not node.name), None)
    repeated = next((name for name, count in nodes.items() if name and count > 1), None)
    if nameless is not None:
        found["node_names"] = f"a node of type {nameless.op_type} has no name"
    elif repeated is not None:
        found["node_names"] = f"{nodes[repeated]} nodes are named {repeated!r}"
    outputs = [v for node in graph for v in node.outputs if v.name or v.uses() or v.is_graph_output()]
    values = {id(v): v for v in (*graph.inputs, *graph.initializers.values(), *outputs)}
    names = Counter(v.name for v in values.values())
    if names.get(None) or names.get(""):
        found["value_names"] = "a value has no name"
    elif names and names.most_common(1)[0][1] > 1:
        found["value_names"] = f"several values are named {names.most_common(1)[0][0]!r}"
    return found


def undefined_values(model: ir.Model) -> list[str]:
    """Values that are read, or are graph outputs, and that nothing produces; one sentence each."""
    return _undefined(model.graph, set())


def _undefined(graph: ir.Graph, outer: set[ir.Value]) -> list[str]:
    known = outer | set(graph.inputs) | set(graph.initializers.values()) | {v for node in graph for v in node.outputs}
    found = []
    for node in graph:
        found += [
            f"node {node.name!r} ({node.op_type}) reads value {v.name!r}, which nothing produces"
            for v in node.inputs
            if v is not None and v not in known
        ]
        for body in bodies(node):
            found += _undefined(body, known)
    found += [f"graph output {v.name!r} is not produced by anything" for v in graph.outputs if v not in known]
    return found


def _first_unsorted(graph: ir.Graph, outer: set[ir.Value]) -> str | None:
    ready = outer | set(graph.inputs) | set(graph.initializers.values())
    later = {v for node in graph for v in node.outputs}
    for node in graph:
        for value in node.inputs:
            if value in later and value not in ready:
                return f"node {node.name!r} ({node.op_type}) stands before the node that produces {value.name!r}"
        for body in bodies(node):
            inner = _first_unsorted(body, ready)
            if inner:
                return inner
        ready.update(node.outputs)
    return None


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a control-flow node holds (If, Loop, Scan …); empty for other nodes."""
    found: list[ir.Graph] = []
    for attr in node.attributes.values():
        if attr.is_ref():
            continue
        if attr.type == ir.AttributeType.GRAPH:
            found.append(attr.as_graph())
        elif attr.type == ir.AttributeType.GRAPHS:
            found.extend(attr.as_graphs())
    return found
