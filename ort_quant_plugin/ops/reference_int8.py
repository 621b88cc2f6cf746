"""The int8 operators of domain ``ort_quant`` in numpy: obvious, slow, and the oracle of the tests.

Activations are uint8 ``u = q + 128``, channels last; their zero point is ``z = x_offset + 128``. Sums are int32 and
wrap; everything after them is float32, one rounding per operation in the order written. A layer returns its float32
result, channels last; :func:`run_epilogue` goes on from there, and :func:`quantize` makes the uint8 output of it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]
    Bytes = NDArray[np.uint8]
    Integers = NDArray[np.int64]

__all__ = [
    "dequantize_layout",
    "q_add",
    "q_average_pool",
    "q_conv",
    "q_conv_chain",
    "q_conv_transpose",
    "q_gemm",
    "q_max_pool",
    "quantize",
    "quantize_layout",
    "run_epilogue",
]


def quantize(x: ArrayLike, scale: float, offset: int = 0) -> Bytes:
    """``clip(rint(x·scale) + offset, −128, 127) + 128``, NaN as 128; `scale` is ``1/scale_d``."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = np.rint(np.asarray(x, np.float32) * np.float32(scale)) + np.float32(offset)
    codes = np.nan_to_num(np.clip(shifted, np.float32(-128), np.float32(127)), nan=0.0)
    return (codes + 128).astype(np.uint8)


def quantize_layout(x: ArrayLike, scale: float, offset: int = 0, layout: str = "channels_first") -> Bytes:
    """:func:`quantize`; ``channels_first`` also turns [N, C, s…] into [N, s…, C], ``same`` does not."""
    codes = quantize(x, scale, offset)
    return np.moveaxis(codes, 1, -1) if layout == "channels_first" else codes


def dequantize_layout(x: ArrayLike, scale: float, offset: int = 0, layout: str = "channels_first") -> Floats:
    """``float(u − 128 − offset)·scale``; ``channels_first`` also turns [N, s…, C] into [N, C, s…]."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: Floats = (np.asarray(x).astype(np.int64) - 128 - offset).astype(np.float32) * np.float32(scale)
    return np.moveaxis(values, -1, 1) if layout == "channels_first" else values


def run_epilogue(
    value: Floats,
    epilogue: str = "",
    channel_constants: ArrayLike | None = None,
    r0: ArrayLike | None = None,
    r1: ArrayLike | None = None,
) -> Floats:
    """Run the steps ``"<op> <operand> …; …"`` on `value` (channels last) and return the last one's result.

    An operand is the number of an earlier value (0: `value` itself), ``r0``, ``r1``, ``c<row>`` or a literal.
    """
    values = [np.asarray(value, np.float32)]

    def operand(word: str) -> Floats:
        if word.isdigit():
            return values[int(word)]
        if word in ("r0", "r1"):
            return np.asarray(r0 if word == "r0" else r1, np.float32)
        if word[0] == "c":
            return np.asarray(channel_constants, np.float32)[int(word[1:])]
        return np.asarray(word, np.float32)

    for step in filter(None, (text.strip() for text in epilogue.split(";"))):
        op, *words = step.split()
        a = operand(words[0])
        rest = [np.float32(word) for word in words[1:]] if op not in _ARITHMETIC else []
        with np.errstate(all="ignore"):
            if op in _ARITHMETIC:
                result = _ARITHMETIC[op](a, operand(words[1]))
            elif op == "clip":
                result = np.minimum(np.maximum(a, rest[0]), rest[1])
            elif op == "relu":
                result = np.maximum(a, np.float32(0))
            elif op == "leaky_relu":
                result = np.where(a >= 0, a, rest[0] * a)
            elif op == "hard_sigmoid":
                result = np.maximum(np.minimum(rest[0] * a + rest[1], np.float32(1)), np.float32(0))
            else:
                msg = f"epilogue step '{step}' starts with '{op}'"
                raise ValueError(msg)
        values.append(np.broadcast_to(result, value.shape).astype(np.float32))
    return values[-1]


_ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


def q_conv(
    x: ArrayLike,
    w: ArrayLike,
    deq: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    x_offset: int = 0,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Floats:
    """Convolution before its epilogue.

    Args:
        x: uint8 [N, s1…sd, C].
        w: int8 [M, C/group, k1…kd].
        deq: float32 [M] or [1].
        bias: int32 [M].
        x_offset: −128 … 127.
        strides: As in ONNX's Conv; so are `pads`, `dilations`, `group` and `auto_pad`.

    Returns:
        float32 [N, o1…od, M].
    """
    w = np.asarray(w)
    d = w.ndim - 2
    kernel, strides, dilations = w.shape[2:], list(strides or [1] * d), list(dilations or [1] * d)
    real = _real(x, x_offset)
    begin, end = _pads(real.shape[1:-1], kernel, strides, pads, auto_pad)
    padded = np.pad(real, [(0, 0), *zip(begin, end, strict=True), (0, 0)])
    out = [(padded.shape[1 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in range(d)]
    acc = np.zeros((real.shape[0], *out, w.shape[0]), np.int64)
    for tap in product(*map(range, kernel)):
        weights = np.moveaxis(w, (0, 1), (-2, -1))[tap].astype(np.int64)
        part = padded[_window(tap, out, strides, dilations)]
        acc += _grouped_product(part, [rows.T for rows in np.split(weights, group)])
    return _dequantize(acc, deq, bias)


def q_conv_chain(x: ArrayLike, stages: Sequence[Mapping[str, Any]]) -> Floats:
    """Convolutions one after the other, before the last one's epilogue.

    Args:
        x: uint8 [N, H, W, C].
        stages: The arguments of :func:`q_conv` for each of them, and for all but the last ``y_scale`` and, optionally,
            ``y_offset``, ``epilogue`` and ``channel_constants``.

    Returns:
        float32 [N, H', W', M].
    """
    *inner, last = ({**stage} for stage in stages)
    for stage in inner:
        end = {name: stage.pop(name, None) for name in ("epilogue", "channel_constants", "y_scale", "y_offset")}
        value = run_epilogue(q_conv(x, **stage), end["epilogue"] or "", end["channel_constants"])
        x = quantize(value, end["y_scale"], end["y_offset"] or 0)
    return q_conv(x, **last)


def q_conv_transpose(
    x: ArrayLike,
    w: ArrayLike,
    deq: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    x_offset: int = 0,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
) -> Floats:
    """Transposed convolution before its epilogue; `w` is int8 [C, M/group, k1…kd], see :func:`q_conv`."""
    w = np.asarray(w)
    d = w.ndim - 2
    kernel, strides, dilations = w.shape[2:], list(strides or [1] * d), list(dilations or [1] * d)
    extra = list(output_padding or [0] * d)
    real = _real(x, x_offset)
    sizes = real.shape[1:-1]
    natural = [(sizes[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i in range(d)]
    acc = np.zeros((real.shape[0], *natural, w.shape[1] * group), np.int64)
    for tap in product(*map(range, kernel)):
        weights = np.moveaxis(w, (0, 1), (-2, -1))[tap].astype(np.int64)
        acc[_window(tap, sizes, strides, dilations)] += _grouped_product(real, np.split(weights, group))
    pads = list(pads or [0] * 2 * d)
    begin, end = pads[:d], pads[d:]
    if output_shape is not None or auto_pad.startswith("SAME"):
        wanted = output_shape or [sizes[i] * strides[i] for i in range(d)]
        totals = [max(0, natural[i] - wanted[i]) for i in range(d)]
        begin = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in totals]
        end = [totals[i] - begin[i] for i in range(d)]
    crop = (slice(None), *(slice(begin[i], natural[i] - end[i]) for i in range(d)))
    return _dequantize(acc[crop], deq, bias)


def q_gemm(x: ArrayLike, w: ArrayLike, deq: ArrayLike, bias: ArrayLike | None = None, *, x_offset: int = 0) -> Floats:
    """Matrix product before its epilogue: `x` uint8 […, K], `w` int8 [K, N], `deq` [N] or [1], `bias` int32 [N]."""
    return _dequantize(_real(x, x_offset) @ np.asarray(w).astype(np.int64), deq, bias)


def q_max_pool(
    x: ArrayLike,
    kernel_shape: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
) -> Bytes:
    """Largest value of each window of `x` uint8 [N, s1…sd, C]; padding never wins."""
    values, _, _ = _pool_taps(
        np.asarray(x).astype(np.int64), kernel_shape, strides, pads, dilations, ceil_mode, auto_pad
    )
    return np.max(values, axis=0).astype(np.uint8)


def q_average_pool(
    x: ArrayLike,
    deq: float,
    kernel_shape: Sequence[int] | None = None,
    *,
    x_offset: int = 0,
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    auto_pad: str = "NOTSET",
) -> Floats:
    """``float(Σ)/float(number)·deq`` of each window before the epilogue; without `kernel_shape` the global average."""
    real = _real(x, x_offset)
    kernel_shape = kernel_shape or real.shape[1:-1]
    values, inside, padded = _pool_taps(real, kernel_shape, strides, pads, dilations, ceil_mode, auto_pad)
    number = np.sum(padded if count_include_pad else inside, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.sum(values, axis=0).astype(np.float32) / number.astype(np.float32)
    return mean * np.float32(deq)


def q_add(
    a: ArrayLike,
    b: ArrayLike,
    *,
    a_scale: float,
    b_scale: float,
    a_offset: int = 0,
    b_offset: int = 0,
) -> Floats:
    """Sum of two dequantized uint8 tensors of one shape before its epilogue."""
    with np.errstate(over="ignore", invalid="ignore"):
        total: Floats = dequantize_layout(a, a_scale, a_offset, "same") + dequantize_layout(
            b, b_scale, b_offset, "same"
        )
    return total


def _real(x: ArrayLike, x_offset: int) -> Integers:
    return np.asarray(x).astype(np.int64) - (x_offset + 128)


def _dequantize(acc: Integers, deq: ArrayLike, bias: ArrayLike | None) -> Floats:
    if bias is not None:
        acc = acc + np.asarray(bias).astype(np.int64)
    wrapped = (acc & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    with np.errstate(over="ignore", invalid="ignore"):
        y: Floats = wrapped.astype(np.float32) * np.asarray(deq, np.float32)
    return y


def _grouped_product(x: Integers, weights: Sequence[Integers]) -> Integers:
    """Each group of channels of `x` [..., C] times its own matrix [C/group, M/group]."""
    return np.concatenate([part @ w for part, w in zip(np.split(x, len(weights), axis=-1), weights, strict=True)], -1)


def _pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int] | None, auto_pad: str
) -> tuple[list[int], list[int]]:
    d = len(sizes)
    if auto_pad.startswith("SAME"):
        totals = [max(0, (-(-sizes[i] // strides[i]) - 1) * strides[i] + kernel[i] - sizes[i]) for i in range(d)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        return (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    pads = list(pads or [0] * 2 * d)
    return pads[:d], pads[d:]


def _window(
    tap: Sequence[int], positions: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[slice, ...]:
    """Index of what `tap` meets: all samples, and as many positions of each spatial axis, a stride apart."""
    first = [t * dilation for t, dilation in zip(tap, dilations, strict=True)]
    axes = [slice(f, f + (p - 1) * s + 1, s) for f, p, s in zip(first, positions, strides, strict=True)]
    return (slice(None), *axes)


def _pool_taps(
    x: Integers,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    ceil_mode: int,
    auto_pad: str,
) -> tuple[Integers, Integers, Integers]:
    """Per tap what each window sees there (0 outside x), whether that is in x, and whether in x or its padding."""
    d = x.ndim - 2
    strides, dilations = list(strides or [1] * d), list(dilations or [1] * d)
    begin, end = _pads(x.shape[1:-1], kernel, strides, pads, auto_pad)
    out, beyond = [], []
    for i, size in enumerate(x.shape[1:-1]):
        room = size + begin[i] + end[i] - (kernel[i] - 1) * dilations[i] - 1
        windows = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
        out.append(windows - 1 if ceil_mode and (windows - 1) * strides[i] >= size + begin[i] else windows)
        beyond.append(max(0, (out[i] - 1) * strides[i] - room))
    padding = [(0, 0), *zip(begin, end, strict=True), (0, 0)]
    excess = [(0, 0), *((0, size) for size in beyond), (0, 0)]
    ones = np.ones_like(x)
    maps = np.pad(x, padding), np.pad(ones, padding), np.pad(ones, padding, constant_values=1)
    windows_of = [_window(tap, out, strides, dilations) for tap in product(*map(range, kernel))]
    values, inside, padded = (np.stack([np.pad(m, excess)[window] for window in windows_of]) for m in maps)
    return values, inside, padded
