"""Hang calibration nodes onto the tensors to be quantized.

A calibration node is a side branch: its output feeds nothing, ONNX Runtime (1.17 to 1.31) runs it
all the same at every optimization level, and the graph's outputs stay exactly the user's. One node
serves every layer that reads the same tensor with the same parameters.

Methods with an operator of their own (AMCT's IFMR and HFMG) write the record in any process. The others
need ``ort_quant.Observe``, which hands out sketches on demand::

    ort_quant.flush (BOOL[1], an input with the default false) ─▶ Observe … Observe ─▶ Concat ─▶ ort_quant.sketches
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.calibration.observed import OBSERVER_META, Use, describe
from ort_quant_plugin.dataflow import FUSED_OUTPUT_TYPES, activated_output, next_quantized_layer
from ort_quant_plugin.model import Names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ort_quant_plugin.calibration.methods import CalibrationMethod, Storage
    from ort_quant_plugin.config import ActivationConfig
    from ort_quant_plugin.layers import LayerTable

__all__ = [
    "FLUSH",
    "OBSERVER_TYPES",
    "SKETCHES",
    "Observation",
    "insert_observers",
    "insert_sketches",
    "output_observations",
    "remove_observers",
]

OBSERVER_TYPES = frozenset({"IFMR", "HFMG", "SearchN", "SearchNv2", "DUMP", "DMQBalancer", "Observe"})
FLUSH = "ort_quant.flush"
"""Graph input, BOOL[1], false by default: whether this run hands out the sketches and starts new ones."""
SKETCHES = "ort_quant.sketches"
"""Graph output, UINT8[n]: the serialized sketches one behind the other; n = 0 in all other runs."""

_JOIN = "ort_quant.join_sketches"


@dataclass(frozen=True)
class Observation:
    """One tensor to observe.

    Attributes:
        key: Record entry that receives the range.
        value: The tensor.
        activation: How the range is chosen.
    """

    key: str
    value: ir.Value
    activation: ActivationConfig


def output_observations(
    layers: LayerTable, quantized: Mapping[str, ActivationConfig], observed: Sequence[Observation]
) -> list[Observation]:
    """Tensors that only the QDQ model needs: outputs of layers that no quantized layer reads next.

    Args:
        layers: All layers.
        quantized: Activation configuration of the layers that are quantized.
        observed: What is observed already.

    Returns:
        Observations with the key ``<layer>:output``.
    """
    activations = {layers[name].activation: layers[name] for name in quantized}
    taken = {o.value for o in observed}
    found = []
    for name, activation in quantized.items():
        layer = layers[name]
        value = activated_output(layer)
        if layer.op_type not in FUSED_OUTPUT_TYPES or value in taken or next_quantized_layer(value, activations):
            continue
        taken.add(value)
        found.append(Observation(f"{name}:output", value, activation))
    return found


def insert_observers(
    model: ir.Model,
    observations: Sequence[Observation],
    methods: Mapping[str, CalibrationMethod],
    *,
    batch_num: int,
    record_file: str,
    precision_mode: str = "DEFAULT",
    storage: Storage = "sketch",
) -> list[ir.Node]:
    """Insert one calibration node for every tensor and parameter set; returns the new nodes.

    The node is called ``<first key>_<method>_op`` (AMCT: ``<layer>_ifmr_op``).

    Args:
        model: Changed in place.
        observations: What to observe.
        methods: Methods by name.
        batch_num: Runs whose data is used.
        record_file: Absolute path of the record.
        precision_mode: ``DEFAULT`` or ``FORCE_FP16_QUANT``, noted in the record.
        storage: How AMCT's operators keep their data.
    """
    from ort_quant_plugin.calibration.methods import RecordingMethod

    names = Names(model)
    groups: dict[tuple[int, str], list[Observation]] = {}
    for observation in observations:
        groups.setdefault((id(observation.value), repr(observation.activation)), []).append(observation)
    nodes, sketched = [], []
    for group in groups.values():
        value, activation, keys = group[0].value, group[0].activation, [o.key for o in group]
        method = methods[activation.algo]
        name = names.node(f"{keys[0]}_{activation.algo}_op")
        if isinstance(method, RecordingMethod):
            spec = method.observer(
                activation, batch_num=batch_num, object_layers=keys, record_file=record_file, storage=storage
            )
            attributes = dict(spec.attributes)
            if "fakequant_precision_mode" in attributes:
                attributes["fakequant_precision_mode"] = precision_mode
            node = ir.node(spec.op_type, [value], attributes, domain=spec.domain, name=name)
            _declare_output(node, names, ir.DataType.FLOAT, ir.Shape([1]))
        else:
            node = _observe_node(value, name, names)
            sketched.append(node)
        node.metadata_props[OBSERVER_META] = describe(
            [Use(tuple(keys), activation)],
            batch_num=batch_num,
            record_file=record_file,
            precision_mode=precision_mode,
        )
        _place_behind(model, value, node)
        nodes.append(node)
    if sketched:
        _add_flush(model, sketched)
    return nodes


def insert_sketches(model: ir.Model, tensors: Sequence[ir.Value]) -> None:
    """Let ``ort_quant.Observe`` sketch each tensor, whatever the method; in place.

    Flushed sketches have the tensors' names as keys.
    """
    if not tensors:
        return
    names = Names(model)
    order = {id(node): position for position, node in enumerate(model.graph)}
    nodes = [_observe_node(value, names.node(f"{value.name}_observe_op"), names) for value in tensors]
    # ONNX Runtime walks back from the last node and runs what it meets first as late as it can. In this order each
    # tensor is observed as soon as it is there and freed; in the graph's order all of them would be kept to the end.
    model.graph.extend(sorted(nodes, key=lambda node: -order.get(id(_producer(node)), -1)))
    model.opset_imports.setdefault(nodes[0].domain, 1)
    _add_flush(model, nodes)


def _observe_node(value: ir.Value, name: str, names: Names) -> ir.Node:
    node = ir.node("Observe", [value, None], {"key": value.name or ""}, domain="ort_quant", name=name)
    _declare_output(node, names, ir.DataType.UINT8, ir.Shape([None]))
    return node


def _producer(observer: ir.Node) -> ir.Node | None:
    value = observer.inputs[0]
    return None if value is None else value.producer()


def _declare_output(node: ir.Node, names: Names, dtype: ir.DataType, shape: ir.Shape) -> None:
    node.outputs[0].name = names.value(f"{node.name}.output0")
    node.outputs[0].type = ir.TensorType(dtype)
    node.outputs[0].shape = shape


def _add_flush(model: ir.Model, nodes: Sequence[ir.Node]) -> None:
    """Connect the observers to the flush input and their sketches to one graph output."""
    graph = model.graph
    flush = ir.Value(
        name=FLUSH,
        type=ir.TensorType(ir.DataType.BOOL),
        shape=ir.Shape([1]),
        const_value=ir.tensor(np.zeros(1, np.bool_), name=FLUSH),
    )
    graph.inputs.append(flush)
    graph.initializers.add(flush)
    model.ir_version = max(model.ir_version, 4)  # from which on an initializer is a default that feeds may override
    for node in nodes:
        node.replace_input_with(1, flush)
    joined = ir.node("Concat", [node.outputs[0] for node in nodes], {"axis": 0}, name=_JOIN)
    joined.outputs[0].name = SKETCHES
    joined.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    joined.outputs[0].shape = ir.Shape([None])
    graph.append(joined)
    graph.outputs.append(joined.outputs[0])


def _place_behind(model: ir.Model, value: ir.Value, node: ir.Node) -> None:
    graph, producer = model.graph, value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    elif len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)
    model.opset_imports.setdefault(node.domain, 1)


def _is_observer(node: ir.Node) -> bool:
    return OBSERVER_META in node.metadata_props or (
        node.op_type in OBSERVER_TYPES and node.domain in {"amct.customop", "ort_quant"}
    )


def remove_observers(model: ir.Model, *, only: Collection[str] | None = None) -> list[ir.Node]:
    """Take calibration nodes out again (AMCT's and ours); returns them, detached.

    Args:
        model: Changed in place.
        only: Names of the nodes to remove; ``None`` for all. Flushing goes in either case.
    """
    graph = model.graph
    found = [node for node in graph if _is_observer(node) and (only is None or node.name in only)]
    found += [node for node in graph if node.name == _JOIN]
    graph.outputs[:] = [value for value in graph.outputs if value.name != SKETCHES]
    graph.remove(found, safe=True)  # safe: the observed values forget their readers
    graph.inputs[:] = [value for value in graph.inputs if value.name != FLUSH]
    graph.initializers.pop(FLUSH, None)
    for domain in {node.domain for node in found} - {""}:
        if not any(node.domain == domain for node in model.graph.all_nodes()):
            model.opset_imports.pop(domain, None)
    return found
