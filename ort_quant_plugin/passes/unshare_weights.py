"""Give every layer a weight and a bias of its own.

    Conv₁(x, W), Conv₂(y, W)    →    Conv₁(x, W), Conv₂(y, W')        W' = W

Weights are replaced by integers with per-layer scales, so a constant that several nodes read must be copied first. The
first reader in graph order keeps the original unless something other than a layer reads it too. Copies share the bytes
(in memory or in the external file) until a layer is quantized.
"""

from __future__ import annotations

import onnx_ir as ir

from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.fold_weights import parameters
from ort_quant_plugin.passes.rewrite import is_constant, is_op, set_input, unique_name

__all__ = ["UnshareWeights"]

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class UnshareWeights:
    """Copies weights and biases that several nodes read, so that every layer has its own."""

    name = "unshare_weights"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Copy shared constants; also those that are graph outputs, which must keep their float content."""
        report = PassReport(self.name)
        kept: set[ir.Value] = set()
        for node in model.graph:
            if not is_op(node, *_LAYERS):
                continue
            for index in parameters(node):
                value = node.inputs[index]
                assert value is not None
                if not is_constant(value) or not value.is_initializer() or not _is_shared(value):
                    continue
                if value not in kept and _only_layers_read(value):
                    kept.add(value)
                    continue
                copy = _copy(model, value, f"{value.name}_{node.name}")
                set_input(node, index, copy)
                report.change(node.name, f"reads {copy.name!r}, its own copy of {value.name!r}")
        return report


def _is_shared(value: ir.Value) -> bool:
    return len(value.uses()) > 1 or value.is_graph_output()


def _only_layers_read(value: ir.Value) -> bool:
    if value.is_graph_output():
        return False
    return all(is_op(use.node, *_LAYERS) and use.node.graph is value.graph for use in value.uses())


def _copy(model: ir.Model, value: ir.Value, wanted: str) -> ir.Value:
    tensor = value.const_value
    assert tensor is not None
    name = unique_name(model, wanted)
    copy = ir.Value(name=name, shape=value.shape, type=value.type, const_value=_same_bytes(tensor, name))
    model.graph.register_initializer(copy)
    return copy


def _same_bytes(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    """Another tensor object on the same data: a tensor carries the name of one initializer."""
    shape = ir.Shape(tensor.shape.numpy())
    if isinstance(tensor, ir.ExternalTensor):
        return ir.ExternalTensor(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=shape,
            name=name,
            base_dir=tensor.base_dir,
        )
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=shape, name=name)
