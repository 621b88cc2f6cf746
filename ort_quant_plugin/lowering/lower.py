"""Deploy graph in, int8 graph of our operators out: the recipe."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.lowering.ascend import (
    Layer,
    anti_scale,
    is_ascend,
    layer_behind,
    quantizer_of,
    read_layer,
)
from ort_quant_plugin.lowering.chain import CHAIN, join_chains
from ort_quant_plugin.lowering.demand import Demands, Unit
from ort_quant_plugin.lowering.emit import Emitter
from ort_quant_plugin.lowering.epilogue import absorb
from ort_quant_plugin.lowering.float_form import FloatForms
from ort_quant_plugin.lowering.forms import DOMAIN
from ort_quant_plugin.lowering.hoist import hoist_quantizers
from ort_quant_plugin.lowering.report import LoweredLayer, LoweringReport
from ort_quant_plugin.lowering.shapes import Shapes
from ort_quant_plugin.model import Names
from ort_quant_plugin.passes.rewrite import is_op

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

__all__ = ["lower"]


def lower(model: ir.Model, *, modes: Mapping[str, str] | None = None, chains: bool = True) -> LoweringReport:
    """Rewrite a deploy model in place into int8 regions of the operators of domain ``ort_quant``.

    The result computes the same bits as the fake_quant model of the same quantization (as long as no accumulator
    passes 2²⁴, where float32 simulation ends). Graph inputs and outputs and the names of all float tensors that still
    exist are kept.

    Args:
        model: A deploy model: default-domain AscendQuant, AscendDequant, AscendAntiQuant around int8 layers.
        modes: ``fakequant_precision_mode`` by layer for layers that must simulate another arithmetic.
        chains: Join depthwise convolutions with their neighbours, which changes no bit.

    Returns:
        What was done with every quantized layer, and why where it stays float.

    Raises:
        UnsupportedError: The graph uses a variant of the Ascend operators that AMCT does not write.
    """
    forced = {name: mode for name, mode in (modes or {}).items() if mode != "DEFAULT"}
    report = LoweringReport()
    model.graph.sort()
    hoist_quantizers(model, Names(model))
    shapes = Shapes(model)
    layers = _read(model, shapes, forced, report)
    units = _units(model.graph, [layer for layer in layers if layer.reason is None], shapes)
    demands = Demands(model.graph, units, shapes)
    emitter = Emitter(model, demands, shapes)
    emitter.run()
    model.opset_imports[DOMAIN] = 1
    chained = join_chains(model.graph) if chains else {}
    chain_of = {id(unit.layer): chained[node].name for unit, node in emitter.written if node in chained}
    fused = {id(unit.layer): tuple(node.op_type for node in unit.program.nodes) for unit in units}
    for layer in layers:
        operator = layer.kind if layer.reason is None else layer.node.op_type
        steps, chain = fused.get(id(layer), ()), chain_of.get(id(layer))
        operator = operator if chain is None else CHAIN
        report.layers.append(LoweredLayer(layer.name, layer.node.op_type, operator, steps, layer.reason, chain))
    report.operators = dict(sorted(Counter(node.op_type for node in model.graph).items()))
    return report


def _read(model: ir.Model, shapes: Shapes, forced: dict[str, str], report: LoweringReport) -> list[Layer]:
    """Find the layers; those that stay float get their float form at once."""
    layers, forms = [], FloatForms(model, forced)
    for node in list(model.graph):
        if is_ascend(node, "AscendDequant"):
            found = layer_behind(node)
            if found is None:
                report.notes.append(f"AscendDequant node {node.name!r} follows no layer; it is computed in float.")
                forms.dequantize(node)
                continue
            layer = read_layer(node, *found, shapes)
            if layer.name in forced:
                layer.reason = f"it simulates {forced[layer.name]}"
            layers.append(layer)
        elif is_op(node, "Add") and (layer_of_add := _read_add(node, shapes)) is not None:
            layers.append(layer_of_add)
    for layer in layers:
        if layer.reason is not None and layer.kind != "QAdd":
            forms.rewrite(layer)
    for node in list(model.graph):
        if is_ascend(node, "AscendQuant") and (readers := forms.serve_integers(node)):
            report.notes.append(f"AscendQuant node {node.name!r} gives int8 to {', '.join(readers)}, no layer of ours.")
    return layers


def _read_add(node: ir.Node, shapes: Shapes) -> Layer | None:
    """An Add of two tensors that went through AscendQuant and AscendAntiQuant."""
    antis = [v.producer() for v in node.inputs if v is not None]
    antis = [anti for anti in antis if is_ascend(anti, "AscendAntiQuant")]
    quants = [quantizer_of(anti.inputs[0]) for anti in antis if anti is not None]
    if len(antis) != 2 or None in quants:
        return None
    scales = np.asarray([anti_scale(anti) for anti in antis if anti is not None], np.float32)
    layer = Layer(
        str(node.name or node.outputs[0].name),
        node,
        node,
        tuple(quant for quant in quants if quant is not None),
        node.outputs[0],
        "QAdd",
        scales,
    )
    a, b = (quant.inputs[0] for quant in layer.quants)
    rank = shapes.rank(a)
    layer.channel_axis = 1 if rank is not None and rank >= 4 else -1
    if rank is None or a is None or b is None or not shapes.same(a, b):
        layer.reason = "its inputs are not known to have the same shape"
    return layer


def _units(graph: ir.Graph, layers: list[Layer], shapes: Shapes) -> list[Unit]:
    """Give every layer its epilogue; of two that could take an operator, the later one does."""
    order = {node: position for position, node in enumerate(graph)}
    claimed = {node for layer in layers for node in layer.inner}
    units = []
    for layer in sorted(layers, key=lambda layer: -order[layer.node]):
        program = absorb(layer.value, layer.channel_axis, order, claimed, shapes)
        claimed.update(program.nodes)
        units.append(Unit(layer, program))
    return units[::-1]
