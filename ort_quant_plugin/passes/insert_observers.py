"""Hang calibration nodes onto the tensors to be quantized.

A calibration node is a side branch: its output feeds nothing, ONNX Runtime (1.17 to 1.31) runs it
all the same at every optimization level, and the graph's outputs stay exactly the user's. One node
serves every layer that reads the same tensor with the same parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.dataflow import FUSED_OUTPUT_TYPES, activated_output, next_quantized_layer
from ort_quant_plugin.model import Names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.calibration.methods import CalibrationMethod
    from ort_quant_plugin.config import ActivationConfig
    from ort_quant_plugin.layers import LayerTable

__all__ = ["OBSERVER_TYPES", "Observation", "insert_observers", "output_observations", "remove_observers"]

OBSERVER_TYPES = frozenset({"IFMR", "HFMG", "SearchN", "SearchNv2", "DUMP", "DMQBalancer"})
OBSERVER_META = "ort_quant.observer"
"""Node metadata key that marks calibration nodes of plugin methods, whose operator types nobody can list here."""


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
) -> list[ir.Node]:
    """Insert one calibration node for every tensor and parameter set; returns the new nodes.

    The node is called ``<first key>_<method>_op`` (AMCT: ``<layer>_ifmr_op``).
    """
    names = Names(model)
    groups: dict[tuple[int, str], list[Observation]] = {}
    for observation in observations:
        groups.setdefault((id(observation.value), repr(observation.activation)), []).append(observation)
    nodes = []
    for group in groups.values():
        first = group[0]
        spec = methods[first.activation.algo].observer(
            first.activation, batch_num=batch_num, object_layers=[o.key for o in group], record_file=record_file
        )
        attributes = dict(spec.attributes)
        if "fakequant_precision_mode" in attributes:
            attributes["fakequant_precision_mode"] = precision_mode
        name = names.node(f"{first.key}_{first.activation.algo}_op")
        node = ir.node(spec.op_type, [first.value], attributes, domain=spec.domain, name=name)
        node.metadata_props[OBSERVER_META] = "1"
        node.outputs[0].name = names.value(f"{name}.output0")
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].shape = ir.Shape([1])
        _place_behind(model.graph, first.value, node)
        model.opset_imports.setdefault(spec.domain, 1)
        nodes.append(node)
    return nodes


def _place_behind(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    elif len(graph):
        graph.insert_before(graph[0], node)
    else:
        graph.append(node)


def remove_observers(model: ir.Model) -> list[ir.Node]:
    """Take all calibration nodes out again (AMCT's and ours); returns them, detached."""
    found = [
        node
        for node in model.graph
        if OBSERVER_META in node.metadata_props
        or (node.op_type in OBSERVER_TYPES and node.domain in {"amct.customop", "ort_quant"})
    ]
    model.graph.remove(found, safe=True)  # safe: the observed values forget their readers
    for domain in {node.domain for node in found}:
        if not any(node.domain == domain for node in model.graph.all_nodes()):
            model.opset_imports.pop(domain, None)
    return found
