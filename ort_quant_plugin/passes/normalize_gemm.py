"""Write Gemm in the one form that layers have: weight (K, N), bias (N), no factors.

    Y = α·A·op(B) + β·C        →        Y = A·B' + C'        B' = α·op(B),  C' = β·C broadcast to (N)

op(B) is Bᵀ when ``transB`` is set. The products are computed in float64 and rounded once. AMCT transposes ``transB``
weights offline and quantizes Gemm with α = β = 1 only; folding the factors makes the others quantizable too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from ort_quant_plugin.model import replace_constant
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import attribute, constant, is_constant, is_op

if TYPE_CHECKING:
    import onnx_ir as ir

    from ort_quant_plugin.model import Array

__all__ = ["NormalizeGemm"]


class NormalizeGemm:
    """Transposes transB weights offline and folds alpha, beta into constant weight and bias."""

    name = "normalize_gemm"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Normalize every Gemm of the main graph with a constant weight."""
        report = PassReport(self.name)
        for node in model.graph:
            if not is_op(node, "Gemm"):
                continue
            weight = node.inputs[1]
            if weight is None or not is_constant(weight) or weight.shape is None:
                report.decline(node.name, "its weight is not a constant")
                continue
            columns = int(weight.shape.numpy()[0 if attribute(node, "transB", 0) else 1])
            _normalize_weight(node, report)
            _normalize_bias(node, columns, report)
        return report


def _normalize_weight(node: ir.Node, report: PassReport) -> None:
    alpha = float(cast("float", attribute(node, "alpha", 1.0)))
    transposed = bool(attribute(node, "transB", 0))
    if not transposed and alpha == 1.0:
        return
    weight = constant(node.inputs[1])
    assert weight is not None
    if transposed:
        weight = np.ascontiguousarray(weight.T)
        report.change(node.name, "transB weight transposed offline")
    if alpha != 1.0:
        scaled = _scaled(weight, alpha)
        if scaled is None:
            report.decline(node.name, f"alpha {alpha} times the weight is not finite")
            alpha = 1.0
        else:
            weight = scaled
            report.change(node.name, f"alpha {alpha} folded into the weight")
    if transposed or alpha != 1.0:
        replace_constant(node, 1, weight)
        node.attributes.pop("transB", None)
    if alpha != 1.0:
        node.attributes.pop("alpha", None)


def _normalize_bias(node: ir.Node, columns: int, report: PassReport) -> None:
    beta = float(cast("float", attribute(node, "beta", 1.0)))
    if len(node.inputs) < 3 or node.inputs[2] is None:
        node.attributes.pop("beta", None)
        return
    bias = constant(node.inputs[2])
    if bias is None:
        if beta != 1.0:
            report.decline(node.name, f"beta is {beta} and its bias is not a constant")
        return
    row = _as_row(bias, columns)
    changed = row.shape != bias.shape
    if changed:
        report.change(node.name, f"bias of shape {list(bias.shape)} written as {list(row.shape)}")
    if beta != 1.0:
        scaled = _scaled(row, beta)
        if scaled is None:
            report.decline(node.name, f"beta {beta} times the bias is not finite")
        else:
            row, changed = scaled, True
            node.attributes.pop("beta", None)
            report.change(node.name, f"beta {beta} folded into the bias")
    if changed:
        replace_constant(node, 2, row)


def _as_row(bias: Array, columns: int) -> Array:
    """The bias as (N) where every row of it is the same by its shape; otherwise as it is."""
    if bias.size == 1 or (bias.size == columns and bias.shape[-1] == columns):
        return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (columns,)))
    return bias


def _scaled(array: Array, factor: float) -> Array | None:
    with np.errstate(over="ignore"):
        result = (array.astype(np.float64) * factor).astype(array.dtype)
    return result if np.all(np.isfinite(result)) else None
