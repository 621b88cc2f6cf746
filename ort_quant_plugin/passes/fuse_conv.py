"""Fold BatchNormalization, and the constant Mul and Add it may be written as, into the convolution before it.

    BN(Conv(x, W, b))         →    Conv(x, W', b')
    Conv(x, W, b)·a + c       →    Conv(x, W', b')

with W', b' of equation (A3), see :mod:`.affine`. A missing bias is made. The convolution must have that single reader,
its weight and bias must be constant, and neither W' nor b' may hold inf or NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.model import replace_constant
from ort_quant_plugin.passes.affine import (
    SCALE_OPS,
    Affine,
    MisfitError,
    of_batch_normalization,
    of_scale_op,
    scaled_weight,
)
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import (
    add_initializer,
    attribute,
    constant,
    consumers,
    graph_of,
    is_constant,
    is_op,
    note_originals,
    set_input,
    sole_consumer,
    take_over,
    unique_name,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from ort_quant_plugin.model import Array

__all__ = ["FuseConvBn", "FuseConvScale"]

_CONVOLUTIONS = ("Conv", "ConvTranspose")


class _FuseConv:
    """The common walk; subclasses say which operators they fold and how those read as an affine map."""

    name: str
    phase = Phase.FUSE
    operators: tuple[str, ...]

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Fold operators into the convolution before them until none is left."""
        report = PassReport(self.name)
        for conv in list(model.graph):
            if is_op(conv, *_CONVOLUTIONS):
                while self._fuse(model, conv, context, report):
                    pass
        return report

    def _fuse(self, model: ir.Model, conv: ir.Node, context: PassContext, report: PassReport) -> bool:
        follower = sole_consumer(conv.outputs[0])
        if follower is None or not is_op(follower, *self.operators):
            self._report_shared(conv, report)
            return False
        try:
            layer = _Convolution(conv)
            affine = self._affine(follower, layer)
            layer.absorb(affine)
        except MisfitError as reason:
            self._report_misfit(follower, reason, conv, report)
            return False
        refusal = context.refusal(conv.name, follower.name)
        if refusal:
            report.decline(follower.name, refusal)
            return False
        layer.write(model)
        note_originals(conv, follower)
        report.change(conv.name, f"took in {follower.op_type} {follower.name!r}")
        take_over(conv, follower)
        return True

    def _affine(self, follower: ir.Node, layer: _Convolution) -> Affine:
        raise NotImplementedError

    def _report_shared(self, conv: ir.Node, report: PassReport) -> None:
        """Say that a reader could not be folded because there are others."""

    def _report_misfit(self, follower: ir.Node, reason: MisfitError, conv: ir.Node, report: PassReport) -> None:
        report.decline(follower.name, f"{reason} (behind {conv.op_type} {conv.name!r})")


class FuseConvBn(_FuseConv):
    """Folds BatchNormalization into the Conv or ConvTranspose before it."""

    name = "fuse_conv_bn"
    operators = ("BatchNormalization",)

    def _affine(self, follower: ir.Node, layer: _Convolution) -> Affine:
        affine = of_batch_normalization(follower)
        if affine.scale.size != layer.channels:
            raise MisfitError(f"it has {affine.scale.size} channels, the layer {layer.channels}")
        return affine

    def _report_shared(self, conv: ir.Node, report: PassReport) -> None:
        output = conv.outputs[0]
        readers = consumers(output)
        why = f"{len(readers)} nodes read {output.name!r}"
        if output.is_graph_output():
            why = f"{output.name!r} is a graph output"
        for reader in readers:
            if is_op(reader, *self.operators):
                report.decline(reader.name, f"{why} (behind {conv.op_type} {conv.name!r})")


class FuseConvScale(_FuseConv):
    """Folds constant Mul, Div, Add and Sub per channel into the Conv or ConvTranspose before them."""

    name = "fuse_conv_scale"
    operators = SCALE_OPS

    def _affine(self, follower: ir.Node, layer: _Convolution) -> Affine:
        return of_scale_op(follower, layer.node.outputs[0], channels=layer.channels, rank=layer.rank)

    def _report_misfit(self, follower: ir.Node, reason: MisfitError, conv: ir.Node, report: PassReport) -> None:
        """Residual adds and gates are no failed fusions: only constant operands are worth a word."""
        if any(is_constant(v) for v in follower.inputs):
            super()._report_misfit(follower, reason, conv, report)


class _Convolution:
    """A Conv or ConvTranspose with constant parameters, and its parameters after folding."""

    def __init__(self, node: ir.Node) -> None:
        weight = constant(node.inputs[1])
        if weight is None:
            raise MisfitError("the weight of the layer is not a constant")
        if not np.issubdtype(weight.dtype, np.floating):
            raise MisfitError(f"the weight of the layer has type {weight.dtype}")
        self.node = node
        self.rank = weight.ndim
        self._weight = weight
        self._transposed = is_op(node, "ConvTranspose")
        group = attribute(node, "group", 1)
        assert isinstance(group, int)
        self._group = group
        self.channels = int(weight.shape[1] * group if self._transposed else weight.shape[0])
        self._bias = self._read_bias()
        self._new_weight: Array | None = None

    def _read_bias(self) -> Array:
        value = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        if value is None:
            return np.zeros(self.channels, dtype=self._weight.dtype)
        bias = constant(value)
        if bias is None:
            raise MisfitError("the bias of the layer is not a constant")
        return bias

    def absorb(self, affine: Affine) -> None:
        """Compute (A3).

        Raises:
            MisfitError: The result is not finite.
        """
        with np.errstate(all="ignore"):
            if not affine.only_shifts:
                self._new_weight = scaled_weight(
                    self._weight, affine.scale, transposed=self._transposed, group=self._group
                )
            bias = self._bias.astype(np.float64) * affine.scale + affine.shift
            self._bias = bias.astype(self._weight.dtype)
        weight_finite = self._new_weight is None or bool(np.all(np.isfinite(self._new_weight)))
        if not weight_finite or not np.all(np.isfinite(self._bias)):
            raise MisfitError("the fused weight or bias would hold inf or NaN")

    def write(self, model: ir.Model) -> None:
        """Put the new parameters into the graph."""
        if self._new_weight is not None:
            replace_constant(self.node, 1, self._new_weight)
        if len(self.node.inputs) > 2 and self.node.inputs[2] is not None:
            replace_constant(self.node, 2, self._bias)
        else:
            name = unique_name(model, f"{self.node.name}.bias")
            set_input(self.node, 2, add_initializer(graph_of(self.node), name, self._bias))
