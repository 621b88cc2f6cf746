"""Write a layer with its epilogue as one operator of the domain ``ort_quant``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.lowering.moves import channels_last, identity
from ort_quant_plugin.passes.rewrite import attribute

if TYPE_CHECKING:
    from ort_quant_plugin.lowering.demand import Demands, Unit
    from ort_quant_plugin.lowering.forms import Forms
    from ort_quant_plugin.lowering.moves import Perm
    from ort_quant_plugin.lowering.shapes import Shapes

__all__ = ["UnitWriter"]

_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides")


class UnitWriter:
    """Writes units; the forms their results are demanded in become outputs."""

    def __init__(self, forms: Forms, demands: Demands, shapes: Shapes) -> None:
        self._forms = forms
        self._demands = demands
        self._shapes = shapes

    def write(self, unit: Unit) -> ir.Node:
        """Place the operator of a unit and store its outputs."""
        layer, forms = unit.layer, self._forms
        attributes: dict[str, object] = {}
        read = self._add_inputs if layer.kind == "QAdd" else self._layer_inputs
        inputs = read(unit, attributes)
        inputs += self._program_inputs(unit)
        while inputs and inputs[-1] is None:
            inputs.pop()
        if unit.program.steps:
            attributes["epilogue"] = unit.program.text()
        outputs = self._outputs(unit, attributes)
        return forms.node(layer.kind, layer.name, inputs, outputs, attributes)

    def _layer_inputs(self, unit: Unit, attributes: dict[str, object]) -> list[ir.Value | None]:
        layer, forms = unit.layer, self._forms
        ((value, code),) = unit.sources
        attributes["x_offset"] = code.offset
        perm = self._demands.perm_for(unit, value)
        x = forms.codes_of(value, code, perm)
        deq = forms.constant(f"{layer.name}.deq_scale", layer.deq)
        if layer.kind == "QPool":
            attributes["mode"] = "average"
            attributes.update(window_attributes(layer.node, _POOL))
            return [x, deq]
        weight: ir.Value | None
        if layer.kind == "QGemm":
            assert layer.weight is not None
            order = forms.stored(value, code).order
            rows = layer.weight if order is None else np.ascontiguousarray(layer.weight[order])
            as_it_is = order is None and not attribute(layer.node, "transB", 0)
            weight = layer.node.inputs[1] if as_it_is else forms.constant(f"{layer.name}.weight", rows)
        else:
            weight = layer.node.inputs[1]
            attributes.update(window_attributes(layer.node, _WINDOW))
        bias = None if layer.bias is None else forms.constant(f"{layer.name}.bias_int32", layer.bias)
        return [x, weight, deq, bias]

    def _add_inputs(self, unit: Unit, attributes: dict[str, object]) -> list[ir.Value | None]:
        inputs: list[ir.Value | None] = []
        for prefix, (value, code), scale in zip("ab", unit.sources, unit.layer.deq, strict=True):
            inputs.append(self._forms.codes_of(value, code, self._demands.perm_for(unit, value)))
            attributes[f"{prefix}_scale"], attributes[f"{prefix}_offset"] = float(scale), code.offset
        return inputs

    def _program_inputs(self, unit: Unit) -> list[ir.Value | None]:
        program, forms = unit.program, self._forms
        rows = program.channel_constants()
        constants = None if rows is None else forms.constant(f"{unit.layer.name}.channel_constants", rows)
        read = forms.last_of if self._is_last(unit) else forms.first_of
        return [constants, *(read(value) for value in program.residuals)]

    def _is_last(self, unit: Unit) -> bool:
        ((value, _), *_) = unit.sources
        return self._demands.perm_for(unit, value) != identity(len(self._demands.perm_for(unit, value)))

    def _outputs(self, unit: Unit, attributes: dict[str, object]) -> list[ir.Value]:
        """Codes of the first two quantizations, and one float tensor; further forms are made from that."""
        value, forms = unit.program.final, self._forms
        demand = self._demands.of(value)
        perm = self._result_perm(unit)
        outputs = [ir.Value(name="") for _ in range(3)]
        for slot, (prefix, (code, _)) in enumerate(zip(("y", "y2"), demand.codes.items(), strict=False)):
            made = forms.new_value(f"{value.name}.codes", value, ir.DataType.UINT8, perm)
            attributes[f"{prefix}_scale"], attributes[f"{prefix}_offset"] = code.scale, code.offset
            outputs[2 * slot] = made
            forms.store_codes(value, code, perm, made)
        last = perm != identity(len(perm))
        if last and (demand.last or len(demand.codes) > 2):
            outputs[1] = forms.new_value(f"{value.name}.last", value, ir.DataType.FLOAT, perm)
            attributes["float_layout"] = "channels_last"
            forms.store_last(value, outputs[1])
        elif demand.first or demand.last or len(demand.codes) > 2:
            outputs[1] = forms.new_value(f"{value.name}.first", value, ir.DataType.FLOAT)
            if last:
                attributes["float_layout"] = "channels_first"
            forms.first[value] = outputs[1]
        while outputs[-1].name == "":
            outputs.pop()
        return outputs

    def _result_perm(self, unit: Unit) -> Perm:
        rank = unit.layer.weight.ndim if unit.spatial and unit.layer.weight is not None else None
        rank = rank or self._shapes.rank(unit.program.final) or self._shapes.rank(unit.sources[0][0]) or 2
        return channels_last(rank) if self._is_last(unit) else identity(rank)


def window_attributes(node: ir.Node, names: tuple[str, ...]) -> dict[str, object]:
    """Attributes of a window operator; explicit pads mean nothing beside auto_pad and are left out."""
    found = {name: attribute(node, name) for name in names if name in node.attributes}
    if found.get("auto_pad", "NOTSET") != "NOTSET":
        found.pop("pads", None)
    return found
