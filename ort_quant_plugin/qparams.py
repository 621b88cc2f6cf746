"""All arithmetic on scales: from a range to parameters, from values to integers, and the packed dequantization scale.

Notation (equation numbers are those of ``docs/explanation/numerics.md``)::

    x ≈ (q − offset) · scale                                                  (N1)
    q = clip(round(x / scale) + offset, qmin, qmax),  qmin = −2^(b−1), qmax = 2^(b−1) − 1      (N2)

Scales are float32, as everywhere in AMCT; every formula below is evaluated in float32 in the order written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import NumericsError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FLT_EPSILON",
    "QuantParams",
    "asymmetric_params",
    "dequantize",
    "integer_range",
    "pack_deq_scale",
    "quantize",
    "quantize_bias",
    "round_half_away",
    "sanitize_scale",
    "symmetric_scale",
    "unpack_deq_scale",
]

FLT_EPSILON = np.float32(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class QuantParams:
    """Per-tensor parameters: ``x ≈ (q − offset)·scale``.

    Attributes:
        scale: Positive, finite float32.
        offset: Zero point in the signed range ``[−2^(b−1), 2^(b−1)−1]``.
        num_bits: Width ``b`` of the integer.
    """

    scale: np.float32
    offset: int
    num_bits: int = 8

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real value with a code of its own."""
        low, high = integer_range(self.num_bits)
        return (low - self.offset) * float(self.scale), (high - self.offset) * float(self.scale)


def integer_range(num_bits: int) -> tuple[int, int]:
    """``(−2^(b−1), 2^(b−1)−1)``."""
    return -(1 << (num_bits - 1)), (1 << (num_bits - 1)) - 1


def round_half_away(x: ArrayLike) -> NDArray[np.float32]:
    """C ``round``: halves go away from zero. AMCT rounds so in calibration and for weights."""
    x = np.asarray(x, np.float32)
    # trunc(x ± 0.5) would round 0.49999997 up, because the sum already rounds in float32.
    whole = np.trunc(x)
    return (whole + np.where(np.abs(x - whole) >= np.float32(0.5), np.sign(x), np.float32(0))).astype(np.float32)


def sanitize_scale(scale: ArrayLike, subject: str) -> NDArray[np.float32]:
    """AMCT's ``ProcessScale``: a scale below FLT_EPSILON becomes 1.

    Args:
        scale: float32, any shape.
        subject: What the scale belongs to, for the error (``layer 'conv1'``).

    Raises:
        NumericsError: A scale is NaN, infinite or so large that ``1/scale < FLT_EPSILON``.
    """
    scale = np.array(scale, np.float32)
    bad = ~np.isfinite(scale) | (scale > np.float32(1) / FLT_EPSILON)
    if bad.any():
        value = float(scale[bad].flat[0])
        raise NumericsError(
            f"The scale of {subject} is {value!r}; expected a finite value of at most 1 / FLT_EPSILON = 8388608.",
            hint="The values are of absurd magnitude: repair them, or put the layer into skip_layers.",
            subject=subject,
            value=value,
        )
    return np.where(scale < FLT_EPSILON, np.float32(1), scale).astype(np.float32)


def asymmetric_params(low: float, high: float, num_bits: int = 8, *, subject: str = "tensor") -> QuantParams:
    """Parameters of the range ``[low, high]``, widened to contain 0 (N3).

    ``scale = (high − low)/(2^b − 1)``, ``offset = −2^(b−1) − round(low/scale)``, halves away from zero.
    """
    lo, hi = min(np.float32(low), np.float32(0)), max(np.float32(high), np.float32(0))
    with np.errstate(over="ignore"):  # a range wider than float32 gives an infinite scale, which is refused
        width = hi - lo
    scale = sanitize_scale(width / np.float32((1 << num_bits) - 1), subject)[()]
    offset = -(1 << (num_bits - 1)) - int(round_half_away(lo / scale))
    qmin, qmax = integer_range(num_bits)
    return QuantParams(np.float32(scale), min(max(offset, qmin), qmax), num_bits)


def symmetric_scale(
    low: ArrayLike, high: ArrayLike, num_bits: int = 8, *, subject: str = "tensor"
) -> NDArray[np.float32]:
    """Scale with offset 0 for ranges ``[low, high]``; shapes broadcast (N4).

    The extreme ``m`` of larger magnitude decides: ``m/qmax`` when it is positive, ``m/qmin`` when it is not
    (the negative side owns one code more); equal magnitudes count as negative.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    qmin, qmax = integer_range(num_bits)
    extreme = np.where(np.abs(high) > np.abs(low), high, low)
    scale = np.where(extreme > 0, extreme / np.float32(qmax), extreme / np.float32(qmin))
    return sanitize_scale(scale, subject)


def quantize(x: ArrayLike, scale: ArrayLike, offset: int = 0, num_bits: int = 8) -> NDArray[np.int32]:
    """Integers of real values, halves away from zero (weights and calibration; N2). ``scale`` broadcasts."""
    qmin, qmax = integer_range(num_bits)
    q = round_half_away(np.asarray(x, np.float32) / np.asarray(scale, np.float32)) + np.float32(offset)
    return np.clip(q, qmin, qmax).astype(np.int32)


def dequantize(q: ArrayLike, scale: ArrayLike, offset: int = 0) -> NDArray[np.float32]:
    """``(q − offset)·scale`` in float32 (N1)."""
    return (np.asarray(q, np.float32) - np.float32(offset)) * np.asarray(scale, np.float32)


def quantize_bias(bias: ArrayLike, deq_scale: ArrayLike, layer: str) -> NDArray[np.int32]:
    """``round(bias / deq_scale)``, halves to even, as int32 (N6).

    Args:
        bias: (C,) float.
        deq_scale: (C,) or (1,) float32, ``scale_d · scale_w``.
        layer: For the error.

    Raises:
        NumericsError: A value is NaN, infinite or does not fit into int32.
    """
    q = np.round(np.asarray(bias, np.float32) / np.asarray(deq_scale, np.float32)).astype(np.float64)
    bad = ~((q >= -(2.0**31)) & (q <= 2.0**31 - 1))
    if bad.any():
        channel = int(np.flatnonzero(bad)[0])
        raise NumericsError(
            f"Do bias quantize failed. Layer {layer!r}: the bias of channel {channel} becomes "
            f"{float(q.flat[channel])!r}, outside of int32.",
            hint=f"Add {layer!r} to skip_layers: its weights or activations are too small for its bias.",
            layer=layer,
            channel=channel,
            value=float(q.flat[channel]),
        )
    return q.astype(np.int32)


def pack_deq_scale(deq_scale: ArrayLike, shift_bit: ArrayLike = 0) -> NDArray[np.uint64]:
    """The UINT64 parameter of AscendDequant (N7).

    Bits 31…0 are the float32 scale, 39…32 the shift N, 47…40 ``offset_w`` (0).
    """
    bits = np.atleast_1d(np.asarray(deq_scale, np.float32)).view(np.uint32).astype(np.uint64)
    return bits | (np.asarray(shift_bit, np.uint64) << np.uint64(32))


def unpack_deq_scale(packed: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Inverse of :func:`pack_deq_scale`: (scale float32, N int32)."""
    packed = np.atleast_1d(np.asarray(packed, np.uint64))
    scale = (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    return scale, ((packed >> np.uint64(32)) & np.uint64(0xFF)).astype(np.int32)
