"""The few graph edits all exporters share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.model import Names, replace_constant
from ort_quant_plugin.passes.rewrite import add_initializer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ort_quant_plugin.export.plan import LayerPlan
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["GraphEditor", "layer_nodes", "quant_attributes", "set_layer_constants"]

ONE = np.float32(1)


class GraphEditor:
    """Adds nodes and constants to a graph with given names, keeping graph inputs and outputs as they are."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self.names = Names(model)
        self._made: dict[str, ir.Value] = {}

    def constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        """An initializer; one that this editor made under the same name is reused, the user's never are."""
        if name not in self._made:
            self._made[name] = add_initializer(self.graph, self.names.value(name), array)
        return self._made[name]

    def node(
        self,
        op_type: str,
        name: str,
        inputs: list[ir.Value],
        dtype: ir.DataType,
        *,
        attributes: Mapping[str, int | float | str] | None = None,
        domain: str = "",
    ) -> ir.Node:
        """A new node, not yet placed; its output is ``<name>.output0`` and has the shape of its first input."""
        node = ir.node(op_type, inputs, dict(attributes or {}), domain=domain, name=self.names.node(name))
        output = node.outputs[0]
        output.name = self.names.value(f"{name}.output0")
        output.type = ir.TensorType(dtype)
        output.shape = inputs[0].shape
        return node

    def insert_before(self, consumer: ir.Node, index: int, chain: list[ir.Node]) -> None:
        """Place ``chain`` in front of ``consumer`` and let its input ``index`` read the end of the chain."""
        self.graph.insert_before(consumer, chain)
        consumer.replace_input_with(index, chain[-1].outputs[0])

    def insert_after(self, value: ir.Value, chain: list[ir.Node], *, rename: str) -> None:
        """Place ``chain`` behind ``value``: everything that read ``value`` now reads the end of the chain.

        A graph output keeps its name, position and type; ``value`` is then called ``rename``.
        """
        producer = value.producer()
        assert producer is not None
        self.graph.insert_after(producer, chain)
        end = chain[-1].outputs[0]
        inside = {id(node) for node in chain}
        for node, index in list(value.uses()):
            if id(node) not in inside:
                node.replace_input_with(index, end)
        if value.is_graph_output():
            name, value.name = value.name, self.names.value(rename)
            end.name = name
            for i, output in enumerate(self.graph.outputs):
                if output is value:
                    self.graph.outputs[i] = end


def quant_attributes(params: QuantParams) -> dict[str, float | str]:
    """Attributes of AscendQuant: ``scale`` is 1/scale_d (AMCT's operator contract)."""
    return {"scale": float(ONE / params.scale), "offset": float(params.offset), "dst_type": "INT8"}


def layer_nodes(model: ir.Model) -> dict[str, ir.Node]:
    """Nodes of the main graph by name."""
    return {str(node.name): node for node in model.graph}


def set_layer_constants(
    node: ir.Node, tail: ir.Node, plan: LayerPlan, *, weight_dtype: type[np.generic], bias_dtype: type[np.generic]
) -> None:
    """Replace weight and bias by their integers, stored in the given types.

    Args:
        node: The layer.
        tail: Where the bias is: ``node`` or the Add behind it.
        plan: The layer's numbers.
        weight_dtype: int8 or float32.
        bias_dtype: int32 or float32.
    """
    if plan.integers is not None:
        replace_constant(node, plan.layer.weight_index, plan.integers, dtype=weight_dtype)
    if plan.bias is not None:
        index = next(i for i, v in enumerate(tail.inputs) if v is not None and v.name == plan.layer.bias_name)
        replace_constant(tail, index, plan.bias.astype(bias_dtype))
