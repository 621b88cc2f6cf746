"""What :func:`ort_quant_plugin.inspect` finds out about a model file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin import steps
from ort_quant_plugin.export.plan import build_plan
from ort_quant_plugin.layers import QUANTIZABLE_TYPES, TENSOR_TYPES, Layer, find_layers
from ort_quant_plugin.lowering.reading import is_lowered, lowered_layers
from ort_quant_plugin.model import const_array, default_opset, read_model
from ort_quant_plugin.passes.insert_observers import OBSERVER_TYPES, remove_observers
from ort_quant_plugin.qparams import unpack_deq_scale
from ort_quant_plugin.record import Record
from ort_quant_plugin.report import InspectReport, LayerReport, layer_reports, table_reports

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    PathLike = str | os.PathLike[str]

__all__ = ["inspect_model", "model_kind"]

_CANDIDATES = frozenset(QUANTIZABLE_TYPES + TENSOR_TYPES)


def model_kind(model: ir.Model) -> str:
    """``float``, ``calibration``, ``fake_quant``, ``deploy``, ``ort`` or ``qdq``, by the operators in the graph."""
    operators = {(node.domain, node.op_type) for node in model.graph}
    types = {op for _, op in operators}
    if types & OBSERVER_TYPES:
        return "calibration"
    if is_lowered(model):
        return "ort"
    if ("", "AscendQuant") in operators or ("", "AscendDequant") in operators:
        return "deploy"
    if types & {"AscendQuant", "AscendDequant"} or any(str(n.name).endswith(".fakedequant.mul") for n in model.graph):
        return "fake_quant"
    return "qdq" if "DequantizeLinear" in types else "float"


def inspect_model(
    path: PathLike, config: PathLike | None, record: PathLike | None, op_libraries: Sequence[str] = ()
) -> InspectReport:
    """See :func:`ort_quant_plugin.inspect`."""
    model = read_model(path)
    kind = model_kind(model)
    if kind == "float":
        return _inspect_float(path, config, record, op_libraries)
    if kind == "calibration":
        remove_observers(model)
        if record is not None:
            plan = build_plan(model, Record.read(record))
            return _report(model, kind, layer_reports(plan, skipped={}, notes={}), plan.notes)
        return _report(model, kind, table_reports(find_layers(model), {}), ["Give --record to see the scales."])
    layers = lowered_layers(model) if kind == "ort" else []
    layers += [_quantized_layer(layer) for layer in find_layers(model).values()]
    return _report(model, kind, layers, [])


def _inspect_float(
    path: PathLike, config: PathLike | None, record: PathLike | None, op_libraries: Sequence[str]
) -> InspectReport:
    prepared = steps.load_and_prepare(path, config_file=config, op_libraries=op_libraries)
    skipped = dict(prepared.skipped)
    if config is not None:
        chosen = steps.load_config(prepared, config)
        enabled = {name for name, layer in chosen.layers.items() if layer.quant_enable}
        skipped = {
            layer.name: "quant_enable is false in the configuration"
            for layer in prepared.table.quantizable
            if layer.name not in enabled
        } | prepared.skipped
    if record is not None:
        plan = build_plan(prepared.model, Record.read(record))
        layers, notes = layer_reports(plan, skipped=skipped, notes={}), plan.notes
    else:
        layers, notes = table_reports(prepared.table, skipped), []
    report = _report(prepared.model, "float", layers, notes)
    report.passes = prepared.passes
    return report


def _report(model: ir.Model, kind: str, layers: list[LayerReport], notes: list[str]) -> InspectReport:
    others = Counter(node.op_type for node in model.graph if node.op_type not in _CANDIDATES)
    return InspectReport(kind, default_opset(model), layers, dict(sorted(others.items())), [], notes)


def _quantized_layer(layer: Layer) -> LayerReport:
    """Read the numbers back from the nodes around a layer of a quantized model."""
    source = layer.node.inputs[layer.activation_index] if layer.node.inputs else None
    quant = source.producer() if source is not None else None
    params = _activation(quant) if quant is not None else None
    if layer.kind == "tensor" or params is None:
        reason = "it is float in this model" if layer.kind == "layer" else "only its input tensors can be quantized"
        return LayerReport(layer.name, layer.op_type, "float", layer.reason or reason)
    scale_d, offset_d = params
    scale_w = _weight_scale(layer, scale_d)
    if scale_w is None or layer.op_type == "AveragePool":
        return LayerReport(layer.name, layer.op_type, "quantized", None, scale_d, offset_d)
    return LayerReport(
        layer.name,
        layer.op_type,
        "quantized",
        None,
        scale_d,
        offset_d,
        (float(scale_w.min()), float(scale_w.max())),
        "per-channel" if scale_w.size > 1 else "per-tensor",
    )


def _activation(quant: ir.Node) -> tuple[float, int] | None:
    if quant.op_type == "AscendQuant":
        return float(np.float32(1) / np.float32(quant.attributes["scale"].as_float())), int(
            quant.attributes["offset"].as_float()
        )
    if quant.op_type == "DequantizeLinear":
        scale, zero_point = const_array(quant.inputs[1]), const_array(quant.inputs[2])
        if scale is None or zero_point is None:
            return None
        return float(scale.item()), int(zero_point.item()) - (128 if zero_point.dtype == np.uint8 else 0)
    if str(quant.name).endswith(".fakequant.sub"):
        first = _ancestor(quant, 4)  # Mul → Round → Add → Clip → Sub
        scale = const_array(first.inputs[1]) if first is not None else None
        offset = const_array(quant.inputs[1])
        return None if scale is None or offset is None else (float(np.float32(1) / scale.item()), int(offset.item()))
    return None


def _ancestor(node: ir.Node, steps_up: int) -> ir.Node | None:
    """The node some steps up along first inputs."""
    current: ir.Node | None = node
    for _ in range(steps_up):
        source = current.inputs[0] if current is not None and current.inputs else None
        current = source.producer() if source is not None else None
    return current


def _weight_scale(layer: Layer, scale_d: float) -> NDArray[np.float32] | None:
    """``scale_w``, from the dequantization behind the layer or in front of its weight."""
    if layer.weight_index < len(layer.node.inputs):
        weight = layer.node.inputs[layer.weight_index]
        source = weight.producer() if weight is not None else None
        if source is not None and source.op_type == "DequantizeLinear":
            array = const_array(source.inputs[1])
            return None if array is None else array.astype(np.float32).reshape(-1)
    for user in layer.output.consumers():
        array = const_array(user.inputs[1]) if len(user.inputs) > 1 else None
        if array is not None and user.op_type == "AscendDequant":
            return unpack_deq_scale(array)[0] / np.float32(scale_d)
        if array is not None and str(user.name).endswith(".fakedequant.mul"):
            return array.astype(np.float32).reshape(-1) / np.float32(scale_d)
    return None
