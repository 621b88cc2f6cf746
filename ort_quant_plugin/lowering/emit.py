"""Write the lowered graph: node by node, in the forms that are demanded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.lowering.ascend import LAYER_KINDS, anti_scale, code_of, is_ascend, quantizer_of
from ort_quant_plugin.lowering.forms import Forms
from ort_quant_plugin.lowering.moves import channels_last, data_inputs, flatten_order, identity, plan_move
from ort_quant_plugin.lowering.operators import UnitWriter, window_attributes
from ort_quant_plugin.model import Names
from ort_quant_plugin.passes.rewrite import attribute, constant

if TYPE_CHECKING:
    from ort_quant_plugin.lowering.ascend import Code
    from ort_quant_plugin.lowering.demand import Demands, Unit
    from ort_quant_plugin.lowering.moves import Move, Perm
    from ort_quant_plugin.lowering.shapes import Shapes

__all__ = ["Emitter"]

_MAX_POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


class Emitter:
    """Places the nodes of the lowered graph into the deploy graph, then removes what they replace.

    Attributes:
        written: The operators of the units whose results are read, and their units.
    """

    def __init__(self, model: ir.Model, demands: Demands, shapes: Shapes) -> None:
        self.written: list[tuple[Unit, ir.Node]] = []
        self._model = model
        self._graph = model.graph
        self._names = Names(model)
        self._demands = demands
        self._shapes = shapes
        self._forms = Forms(self._graph, self._names, shapes, demands)
        self._units = UnitWriter(self._forms, demands, shapes)

    def run(self) -> None:
        """Lower every node, let the remaining ones read the new values, drop the rest."""
        for node in list(self._graph):
            self._forms.at = node
            self._lower(node)
            for value in node.outputs:
                if self._demands.of(value).first and self._is_lowered(node):
                    self._forms.first_of(value)
        self._reconnect()
        self._drop_dead()
        self._name_nodes()

    def _is_lowered(self, node: ir.Node) -> bool:
        unit = self._demands.unit_of(node)
        return unit is not None or node in self._demands.carried or node in self._demands.last

    def _lower(self, node: ir.Node) -> None:
        unit = self._demands.unit_of(node)
        if unit is not None:
            if self._demands.of(unit.program.final):
                self.written.append((unit, self._units.write(unit)))
        elif node in self._demands.inner or is_ascend(node, "AscendQuant"):
            return
        elif is_ascend(node, "AscendAntiQuant"):
            self._anti_quantize(node)
        elif node in self._demands.carried:
            for code in self._demands.carried[node]:
                self._carry(node, code)
            self._dequantize_carried(node)
        elif node in self._demands.last:
            self._write_last(node)

    def _anti_quantize(self, node: ir.Node) -> None:
        value, quant = node.outputs[0], quantizer_of(node.inputs[0])
        if not self._demands.of(value):
            return
        assert quant is not None
        assert quant.inputs[0] is not None
        source, code = quant.inputs[0], code_of(quant)
        if value in self._demands.origins:
            self._forms.alias_codes(value, source, code)
        self._forms.dequantize(value, source, code, anti_scale(node))

    def _dequantize_carried(self, node: ir.Node) -> None:
        for value in node.outputs:
            origin, demand = self._demands.origins.get(value), self._demands.of(value)
            if origin is not None and (demand.first or demand.last):
                self._forms.dequantize(value, value, *origin)

    # ---- codes through data movement

    def _carry(self, node: ir.Node, code: Code) -> None:
        if self._demands.pools(node):
            self._pool(node, code)
            return
        values = data_inputs(node)
        stored = self._forms.stored(values[0], code)
        perm = next(iter(stored.by_perm))
        order = flatten_order(node, perm, self._shapes) if node.op_type in {"Reshape", "Flatten"} else None
        if order is not None and perm != identity(len(perm)) and self._feeds_gemms_only(node.outputs[0], code):
            self._flatten_as_stored(node, code, stored.by_perm[perm], order)
            return
        move = plan_move(node, perm, self._shapes)
        assert move is not None  # Demands asked moves.carries()
        sources = [self._forms.codes_of(value, code, move.perm) for value in values]
        if not move.copies:
            self._forms.store_codes(node.outputs[0], code, move.result, sources[0])
            return
        outputs = [
            self._forms.new_value(f"{value.name}.codes", value, ir.DataType.UINT8, move.result)
            for value in node.outputs
        ]
        inputs = self._moved_inputs(node, move, sources)
        if node.op_type == "Pad":
            self._set_pad_value(inputs, code)
        self._forms.node(node.op_type, node.name or "", inputs, outputs, _moved_attributes(node, move), domain="")
        for value, made in zip(node.outputs, outputs, strict=True):
            self._forms.store_codes(value, code, move.result, made)

    def _pool(self, node: ir.Node, code: Code) -> None:
        value = node.inputs[0]
        assert value is not None
        rank = self._shapes.rank(value)
        assert rank is not None
        perm = channels_last(rank)
        made = self._forms.new_value(f"{node.outputs[0].name}.codes", node.outputs[0], ir.DataType.UINT8, perm)
        attributes = {"mode": "max"} | window_attributes(node, _MAX_POOL)
        self._forms.node("QPool", node.name or "", [self._forms.codes_of(value, code, perm)], [made], attributes)
        self._forms.store_codes(node.outputs[0], code, perm, made)

    def _feeds_gemms_only(self, value: ir.Value, code: Code) -> bool:
        """Whether only constant weights meet these rows, whose order can be changed instead of the data's."""
        units = {quant: unit for unit in self._demands.finals.values() for quant in unit.layer.quants}
        readers = [use.node for use in value.uses()]
        return (
            value not in self._demands.origins
            and all(is_ascend(reader, "AscendQuant") for reader in readers)
            and all(
                reader in units and units[reader].layer.kind == "QGemm" for reader in readers if code_of(reader) == code
            )
        )

    def _flatten_as_stored(self, node: ir.Node, code: Code, source: ir.Value, order: np.ndarray) -> None:
        result = node.outputs[0]
        made = self._forms.new_value(f"{result.name}.codes", result, ir.DataType.UINT8)
        self._forms.node("Flatten", node.name or "", [source], [made], {"axis": 1}, domain="")
        self._forms.store_codes(result, code, identity(2), made, order)

    def _moved_inputs(self, node: ir.Node, move: Move, sources: list[ir.Value]) -> list[ir.Value | None]:
        moved = iter(sources)
        tensors = set(data_inputs(node))
        inputs: list[ir.Value | None] = []
        for index, value in enumerate(node.inputs):
            if value is not None and value in tensors:
                inputs.append(next(moved))
            elif index in move.constants:
                inputs.append(self._forms.constant(f"{node.name or node.op_type}.input{index}", move.constants[index]))
            elif value is None or constant(value) is not None:
                inputs.append(value)
            else:
                inputs.append(self._forms.first_of(value))
        return inputs

    def _set_pad_value(self, inputs: list[ir.Value | None], code: Code) -> None:
        """The code of the padded number, which may differ for every quantization."""
        given = constant(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
        number = np.float32(0 if given is None else given.reshape(-1)[0])
        with np.errstate(over="ignore"):
            q = np.clip(np.rint(number * np.float32(code.scale)) + np.float32(code.offset), -128, 127)
        value = self._forms.constant("pad_code", np.asarray(int(q) + 128, np.uint8))
        inputs[2:3] = [value]

    # ---- float operators with the channels last

    def _write_last(self, node: ir.Node) -> None:
        rank = self._shapes.rank(node.outputs[0])
        assert rank is not None  # Demands knew it
        perm = channels_last(rank)
        move = plan_move(node, perm, self._shapes) if self._demands.moves(node) else None
        if move is not None:
            sources = [self._forms.last_of(value) for value in data_inputs(node)]
            if not move.copies:
                self._forms.store_last(node.outputs[0], sources[0])
                return
            inputs = self._moved_inputs(node, move, sources)
            attributes = _moved_attributes(node, move)
        else:
            inputs = [self._operand_last(node, value, perm) for value in node.inputs]
            attributes = _attributes(node)
        outputs = [
            self._forms.new_value(f"{value.name}.last", value, ir.DataType.FLOAT, perm) for value in node.outputs
        ]
        self._forms.node(node.op_type, f"{node.name or node.op_type}.last", inputs, outputs, attributes, domain="")
        for value, made in zip(node.outputs, outputs, strict=True):
            self._forms.store_last(value, made)

    def _operand_last(self, node: ir.Node, value: ir.Value | None, perm: Perm) -> ir.Value | None:
        array = constant(value)
        if value is None:
            return None
        if array is None:
            return self._forms.last_of(value)
        if array.size == 1:
            return value
        full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
        return self._forms.constant(f"{value.name}.last", np.ascontiguousarray(full.transpose(perm)))

    # ---- the end

    def _reconnect(self) -> None:
        """What stays reads the new values, which take the names of those they replace."""
        for old, new in self._forms.first.items():
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            if new.shape is None or old.shape is not None:
                new.shape = old.shape
            name = old.name
            old.name = self._names.value(f"{name}.replaced")
            new.name = name

    def _drop_dead(self) -> None:
        for node in reversed(list(self._graph)):
            if any(v.uses() or v.is_graph_output() for v in node.outputs) or node in self._forms.made:
                continue
            if node.domain == "":
                self._graph.remove(node, safe=True)
        for name, value in list(self._graph.initializers.items()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del self._graph.initializers[name]

    def _name_nodes(self) -> None:
        """New nodes get the names of those they stand for, layers first."""
        for node in self._forms.made:
            node.name = None
        names = Names(self._model)
        for node, wanted in sorted(self._forms.made.items(), key=lambda item: item[0].op_type not in LAYER_KINDS):
            node.name = names.node(wanted)


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: attribute(node, name) for name in node.attributes}


def _moved_attributes(node: ir.Node, move: Move) -> dict[str, object]:
    return _attributes(node) | move.attributes
