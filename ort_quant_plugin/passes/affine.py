"""Per-channel affine operators and how a layer swallows them.

    y_c = s_c · x_c + t_c                                                                (A1)

    BatchNormalization   s = γ / √(σ² + ε)      t = β − μ·s                              (A2)
    Mul by a             s = a                  t = 0
    Div by a             s = 1 / a              t = 0
    Add of a             s = 1                  t = a
    Sub of a             s = 1                  t = −a            (a − x: s = −1, t = a)

Behind a layer y = W∗x + b with output channel c:

    W'_c = s_c · W_c        b'_c = s_c · b_c + t_c                                        (A3)

AMCT computes (A2), (A3) in float32 as W/√(σ²+ε), (b−μ)/√(σ²+ε), then ·γ and ·γ+β. Here everything is float64 and
rounded once to the type of the weight: the value AMCT's chain approximates, so both differ by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.passes.rewrite import attribute, constant, is_op

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from ort_quant_plugin.model import Array

    Floats = NDArray[np.float64]

__all__ = ["SCALE_OPS", "Affine", "MisfitError", "of_batch_normalization", "of_scale_op", "scaled_weight"]

SCALE_OPS = ("Mul", "Div", "Add", "Sub")
"""Element-wise operators that are affine when one operand is constant."""


class MisfitError(Exception):
    """An operator is not a per-channel affine map; the text says why."""


@dataclass(frozen=True)
class Affine:
    """y = scale · x + shift, see (A1).

    Attributes:
        scale: (C,) or (1,) float64.
        shift: (C,) or (1,) float64.
    """

    scale: Floats
    shift: Floats

    @property
    def only_shifts(self) -> bool:
        """Whether the scale is 1 everywhere."""
        return bool(np.all(self.scale == 1.0))


def of_batch_normalization(node: ir.Node) -> Affine:
    """(A2), with C = length of γ.

    Raises:
        MisfitError: Training mode, or parameters that are not constant.
    """
    if attribute(node, "training_mode", 0) or any(v.name or v.uses() for v in node.outputs[1:]):
        raise MisfitError("it is in training mode")
    arrays = [constant(v) for v in node.inputs[1:5]]
    gamma, beta, mean, variance = (None if a is None else a.astype(np.float64) for a in arrays)
    if gamma is None or beta is None or mean is None or variance is None:
        raise MisfitError("its parameters are not constant")
    epsilon = attribute(node, "epsilon", 1e-5)
    assert isinstance(epsilon, float)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        return Affine(scale, beta - mean * scale)


def of_scale_op(node: ir.Node, data: ir.Value, *, channels: int, rank: int | None) -> Affine:
    """The affine map of Mul, Div, Add or Sub with one constant operand.

    Args:
        node: The operator.
        data: Its variable operand, of shape (N, C, …).
        channels: C.
        rank: Number of dimensions of ``data``; ``None`` when unknown.

    Raises:
        MisfitError: The other operand is not a constant with one element or one per channel.
    """
    position = 0 if node.inputs[0] is data else 1
    array = constant(node.inputs[1 - position])
    if array is None:
        raise MisfitError("its other operand is not a constant")
    a = _per_channel(array, channels, rank).astype(np.float64)
    one, zero = np.ones(1), np.zeros(1)
    if is_op(node, "Mul"):
        return Affine(a, zero)
    if is_op(node, "Add"):
        return Affine(one, a)
    if is_op(node, "Sub"):
        return Affine(one, -a) if position == 0 else Affine(-one, a)
    if position == 1:
        raise MisfitError("it divides a constant by the layer's output")
    with np.errstate(all="ignore"):
        return Affine(1.0 / a, zero)


def _per_channel(array: Array, channels: int, rank: int | None) -> Array:
    """The operand as (C,) or (1,), aligned from the right as ONNX broadcasting does."""
    if rank is None:
        raise MisfitError("the rank of its input is not known")
    if array.ndim > rank:
        raise MisfitError(f"its constant has {array.ndim} dimensions, its input {rank}")
    if array.size == 1:
        return array.reshape(1)
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape != (1, channels) + (1,) * (rank - 2):
        raise MisfitError(f"its constant has shape {list(array.shape)}, which is not one number per channel")
    return array.reshape(channels)


def scaled_weight(weight: Array, scale: Floats, *, transposed: bool, group: int) -> Array:
    """(A3) for the weight, in its own type; inf where it overflows.

    Shapes: Conv weight (O, I/g, …); ConvTranspose weight (I, O/g, …), whose group i owns rows i·I/g … and the output
    channels i·O/g …; scale (O,) or (1,).
    """
    wide = weight.astype(np.float64)
    spatial = (1,) * (weight.ndim - 2)
    if scale.size == 1:
        wide = wide * scale
    elif transposed:
        grouped = wide.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        wide = (grouped * scale.reshape(group, 1, -1, *spatial)).reshape(weight.shape)
    else:
        wide = wide * scale.reshape(-1, 1, *spatial)
    with np.errstate(over="ignore"):
        return wide.astype(weight.dtype)
