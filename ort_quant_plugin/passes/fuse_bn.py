"""Fold constant Mul and Add behind a BatchNormalization into it, so that BN·Mul·Add disappears into the layer later.

    c · BN(x)    →    BN'(x)        γ' = c·γ,  β' = c·β
    BN(x) + c    →    BN'(x)        β' = β + c

c holds one number or one per channel. Computed in float64, rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.model import replace_constant
from ort_quant_plugin.passes.affine import Affine, MisfitError, of_batch_normalization, of_scale_op
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import constant, is_op, note_originals, sole_consumer, take_over

if TYPE_CHECKING:
    import onnx_ir as ir

    from ort_quant_plugin.model import Array

__all__ = ["FuseBnAdd", "FuseBnMul"]


class _FuseBn:
    """The common walk; subclasses name the operators."""

    name: str
    phase = Phase.FUSE
    operators: tuple[str, ...]

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Fold operators into the BatchNormalization before them until none is left."""
        report = PassReport(self.name)
        for bn in list(model.graph):
            if is_op(bn, "BatchNormalization"):
                while self._fuse(bn, context, report):
                    pass
        return report

    def _fuse(self, bn: ir.Node, context: PassContext, report: PassReport) -> bool:
        follower = sole_consumer(bn.outputs[0])
        if follower is None or not is_op(follower, *self.operators):
            return False
        try:
            of_batch_normalization(bn)
            gamma, beta = constant(bn.inputs[1]), constant(bn.inputs[2])
            assert gamma is not None
            assert beta is not None
            affine = of_scale_op(follower, bn.outputs[0], channels=gamma.size, rank=_rank(bn))
        except MisfitError as reason:
            report.decline(follower.name, f"{reason} (behind BatchNormalization {bn.name!r})")
            return False
        refusal = context.refusal(bn.name, follower.name)
        new_gamma, new_beta = _folded(gamma, beta, affine)
        if refusal is None and not (np.all(np.isfinite(new_gamma)) and np.all(np.isfinite(new_beta))):
            refusal = "the fused parameters would hold inf or NaN"
        if refusal:
            report.decline(follower.name, refusal)
            return False
        if not affine.only_shifts:
            replace_constant(bn, 1, new_gamma)
        replace_constant(bn, 2, new_beta)
        note_originals(bn, follower)
        report.change(bn.name, f"took in {follower.op_type} {follower.name!r}")
        take_over(bn, follower)
        return True


class FuseBnMul(_FuseBn):
    """Folds a constant Mul (or Div) behind a BatchNormalization into it."""

    name = "fuse_bn_mul"
    operators = ("Mul", "Div")


class FuseBnAdd(_FuseBn):
    """Folds a constant Add (or Sub) behind a BatchNormalization into it."""

    name = "fuse_bn_add"
    operators = ("Add", "Sub")


def _folded(gamma: Array, beta: Array, affine: Affine) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        new_gamma = gamma.astype(np.float64) * affine.scale
        new_beta = beta.astype(np.float64) * affine.scale + affine.shift
        return new_gamma.astype(gamma.dtype), new_beta.astype(beta.dtype)


def _rank(bn: ir.Node) -> int | None:
    for value in (bn.outputs[0], bn.inputs[0]):
        if value is not None and value.shape is not None:
            return len(value.shape)
    return None
