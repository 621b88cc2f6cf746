"""Every custom op in numpy: obvious, slow, and the oracle of the tests.

The inference ops are here, the calibration ops in ``reference_calibration``. Arithmetic is float32, one rounding per
operation in the order written (numpy does not fuse operations). Rounding is
half to even (``rint``) where AMCT's inference ops round and half away from zero (C ``round``) where its calibration
does. Sources: AMCT's ONNX Runtime kernels and quantization library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.ops.reference_calibration import dmq_balancer, hfmg, hfmg_histogram, ifmr, search_n

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]

__all__ = [
    "ascend_anti_quant",
    "ascend_dequant",
    "ascend_quant",
    "dequant",
    "dmq_balancer",
    "hfmg",
    "hfmg_histogram",
    "ifmr",
    "quant",
    "search_n",
]


def ascend_quant(
    x: ArrayLike,
    scale: float,
    offset: float = 0.0,
    num_bits: int = 8,
    *,
    mode: str = "DEFAULT",
    int8_output: bool = False,
) -> NDArray[np.generic]:
    """``clip(rint(x·scale) + offset, −2^(b−1), 2^(b−1)−1) − offset``.

    Args:
        x: float32 or float16, any shape; float16 is widened first.
        scale: ``1/scale_d``, finite and positive.
        offset: Integer of the `num_bits` range.
        num_bits: 4, 8 or 16.
        mode: ``DEFAULT``, or ``FORCE_FP16_QUANT``: scale, x, product and sum rounded to float16, ``rint`` last.
        int8_output: Leave out the final ``− offset`` and return int8, NaN as 0.

    Returns:
        float32 (integers of the 9-bit range; NaN stays NaN) or int8, shape of `x`.
    """
    x = np.asarray(x).astype(np.float32)
    low, high = np.float32(-(2 ** (num_bits - 1))), np.float32(2 ** (num_bits - 1) - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        if mode == "FORCE_FP16_QUANT":
            product = _to_half(_to_half(x) * _half_scale(np.float32(scale)))
            shifted = np.rint(_to_half(product + np.float32(offset)))
        else:
            shifted = np.rint(x * np.float32(scale)) + np.float32(offset)
    code = np.clip(shifted, low, high)
    y: NDArray[np.generic] = np.nan_to_num(code, nan=0.0).astype(np.int8) if int8_output else code - np.float32(offset)
    return y


def quant(x: ArrayLike, scale: float, offset: int = 0, quant_bit: int = 8) -> NDArray[np.generic]:
    """AMCT's legacy form of :func:`ascend_quant` (integer `offset`, 2 to 16 bits)."""
    return ascend_quant(x, scale, offset, quant_bit)


def ascend_dequant(x: ArrayLike, deq_scale: ArrayLike, *, axis: int = 1, mode: str = "DEFAULT") -> Floats:
    """``clip(N == 0 ? x : floor(x/2^N))·s·2^N`` per channel.

    Args:
        x: float32 or float16 accumulators.
        deq_scale: uint64 [1] or [C]: bits 31..0 the float32 ``s``, bits 39..32 ``N``.
        axis: Channel axis of `x` (a 1-D `x` has only axis 0).
        mode: ``DEFAULT``, or ``FORCE_FP16_QUANT``: ``s`` cut to 19 bits, the result rounded to float16.

    Returns:
        float32, shape of `x`. Clipping is to 16 bits if any N is not 0, else to ±2^31.
    """
    packed = np.atleast_1d(np.asarray(deq_scale, np.uint64))
    scale = (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    shift = ((packed >> np.uint64(32)) & np.uint64(0xFF)).astype(np.float32)
    if mode == "FORCE_FP16_QUANT":
        scale = (scale.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        return _to_half(dequant(x, shift, scale, clip_mode=16 if shift.any() else 32, axis=axis))
    return dequant(x, shift, scale, clip_mode=16 if shift.any() else 32, axis=axis)


def dequant(x: ArrayLike, shift: ArrayLike, deq_scale: ArrayLike, *, clip_mode: int = 32, axis: int = 1) -> Floats:
    """AMCT's legacy form of :func:`ascend_dequant`: N and s as float32 inputs of 1 or C values each."""
    x = np.asarray(x).astype(np.float32)
    axis = 0 if x.ndim == 1 else axis
    shift, scale = (_along(np.asarray(v, np.float32), x.ndim, axis) for v in (shift, deq_scale))
    step = np.exp2(shift)
    with np.errstate(over="ignore", invalid="ignore"):
        t = np.where(shift == 0, x, np.floor(x / step))
        limit = np.float32(2.0 ** (clip_mode - 1))
        highest = np.float32(float(limit) - 1)  # 2^31 − 1 is 2^31 in float32
        y: Floats = np.clip(t, -limit, highest) * scale * step
    return y


def ascend_anti_quant(x: ArrayLike, scale: float) -> Floats:
    """``x·scale`` with ``scale = scale_d`` (the input carries no offset)."""
    with np.errstate(over="ignore"):
        y: Floats = np.asarray(x).astype(np.float32) * np.float32(scale)
    return y


def _along(values: Floats, ndim: int, axis: int) -> Floats:
    """One value, or C values shaped to broadcast along `axis`."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def _to_half(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def _half_scale(scale: np.float32) -> np.float32:
    """The quantizer's scale in float16; outside float16's normal range the square of the rounded root."""
    if np.float32(2.0**-14) <= scale <= np.float32(65504):
        rounded: np.float32 = np.float32(np.float16(scale))
        return rounded
    root: np.float32 = np.float32(np.float16(np.sqrt(scale)))
    square: np.float32 = root * root
    return square
