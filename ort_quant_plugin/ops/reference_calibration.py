"""The calibration ops in numpy: IFMR, HFMG, SearchN and the DMQ balancer, as AMCT's quantization library does them.

Float32 values and scales. Here IFMR's squared errors are taken and summed in float64; the op library sums them in
float32 within blocks of 2048 values and in float64 across blocks. SearchN sums in float64 and HFMG in float32 one by
one, here as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]

__all__ = ["dmq_balancer", "hfmg", "hfmg_histogram", "ifmr", "search_n"]

_EPSILON = np.float32(np.finfo(np.float32).eps)
_DOUBLE_EPSILON = np.float32(np.finfo(np.float64).eps)  # HFMG's least scale; a power of two, exact in float32


# --- IFMR ---------------------------------------------------------------------------------------------------------


def ifmr(
    x: ArrayLike,
    *,
    asymmetric: bool = True,
    num_bits: int = 8,
    max_percentile: float = 0.999999,
    min_percentile: float = 0.999999,
    search_range: tuple[float, float] = (0.7, 1.3),
    search_step: float = 0.01,
) -> tuple[np.float32, int]:
    """AMCT's IFMR: percentile bounds, then the upper bound (or magnitude) of least squared quantization error.

    Args:
        x: All batches together; finite, not empty.
        asymmetric: Search the upper bound with the lower one fixed; else search the magnitude, offset 0.
        num_bits: Width of the integer.
        max_percentile: Position of the maximum in descending order, in (0.5, 1].
        min_percentile: The same for the minimum.
        search_range: Candidates are ``ratio·max_init`` for ratios from start to end.
        search_step: Step of the ratio.

    Returns:
        ``(scale, offset)``.

    Raises:
        CalibrationError: The data is empty, not finite, or its scale is too large.
    """
    values = np.asarray(x, np.float32).ravel()
    if not values.size or not np.isfinite(values).all():
        msg = "IFMR calibration data is empty or has inf/nan value."
        raise CalibrationError(msg, hint="Check the input data and its preprocessing.")
    ordered = np.sort(values)
    high = max(ordered[values.size - _rank(max_percentile, values.size)], np.float32(0))
    low = min(ordered[_rank(min_percentile, values.size) - 1], np.float32(0))

    half, one = np.float32(2 ** (num_bits - 1)), np.float32(1)
    positive = abs(high) > abs(low)
    if asymmetric:
        data, base, lower, levels = values, high, low, half + half - one
    else:
        data, lower = np.abs(values), np.float32(0)
        base, levels = (high, half - one) if positive else (abs(low), half)

    start, end, step = map(np.float32, (*search_range, search_step))
    ratios = start + np.arange(int((end - start) / step + np.float32(1)), dtype=np.float32) * step
    best_loss, best_scale = np.inf, np.float32(np.nan)
    for upper in ratios * base:
        scale = _sanitise((upper - lower) / levels, _EPSILON)
        restored = _round_half_away(np.clip(data, lower, upper) / scale) * scale
        loss = float(np.sum((restored.astype(np.float64) - data) ** 2))
        if loss < best_loss:
            best_loss, best_scale = loss, scale
    offset = int(-_round_half_away(lower / best_scale) - half) if asymmetric else 0
    return best_scale, offset


def _rank(percentile: float, count: int) -> int:
    """Rank k of the k-th largest value: ``n − floor(p·n)``, the product in float32 as AMCT does it (1 at least)."""
    p = np.float32(percentile)
    if abs(p - np.float32(1)) < _EPSILON:
        return 1
    product = float(p * np.float32(count)) if count <= 2**24 else float(p) * count
    return max(count - int(np.floor(product)), 1)


def _round_half_away(x: ArrayLike) -> Floats:
    x = np.asarray(x, np.float32)
    whole = np.trunc(x)
    rounded: Floats = whole + np.where(np.abs(x - whole) >= np.float32(0.5), np.sign(x), np.float32(0))
    return rounded


def _sanitise(scale: np.float32, smallest: np.float32) -> np.float32:
    one: np.float32 = np.float32(1)
    if scale < smallest:
        return one
    if not np.isfinite(scale) or one / scale < _EPSILON:
        msg = f"The values give the scale {scale}, expected at most 1/FLT_EPSILON (8388608)."
        raise CalibrationError(msg, hint="Check the input data, or skip the layer.", value=float(scale))
    return scale


# --- HFMG ---------------------------------------------------------------------------------------------------------


def hfmg(
    batches: Iterable[ArrayLike], *, asymmetric: bool = True, num_bits: int = 8, num_of_bins: int = 4096
) -> tuple[np.float32, int]:
    """AMCT's HFMG: a histogram over all batches, then the range of bins of least L2 error.

    Positions of bins left of a candidate range are negative; AMCT wraps them around (unsigned indices), which makes
    values clipped at the low side cost nothing. Scales therefore differ from AMCT's by up to some percent.

    A scale below float64's epsilon becomes 1 (in IFMR: float32's). As in AMCT, bins narrower than float32's epsilon all
    count in the middle bin and cost nothing, so for data that narrow the bins right of the middle win.

    Args:
        batches: Arrays of finite values.
        asymmetric: Else offset 0 and the bound of larger magnitude decides.
        num_bits: Width of the integer.
        num_of_bins: Bins of the histogram.

    Returns:
        ``(scale, offset)``.
    """
    counts, low, high = hfmg_histogram(batches, num_of_bins)
    width = (high - low) / np.float32(num_of_bins)
    ranges = _search_ranges(counts)
    losses = [_range_loss(counts, width, left, right, num_bits) for left, right in ranges]
    left, right = ranges[int(np.argmin(losses))]
    lower = low + np.float32(left) * width
    upper = low + np.float32(right + 1) * width
    return _params(lower, upper, num_bits, asymmetric=asymmetric)


def hfmg_histogram(batches: Iterable[ArrayLike], bins: int) -> tuple[NDArray[np.int64], np.float32, np.float32]:
    """Counts over the common range of all batches, and that range."""
    counts: NDArray[np.int64] | None = None
    low = high = np.float32(0)
    for batch in batches:
        values = np.asarray(batch, np.float32).ravel()
        if not values.size:
            continue
        if counts is None:
            low, high = values.min(), values.max()
            counts = _bin_counts(values, low, high, bins)
            continue
        new_low, new_high = min(low, values.min()), max(high, values.max())
        fresh = _bin_counts(values, new_low, new_high, bins)
        counts = fresh + _redistributed(counts, (low, high), (new_low, new_high))
        low, high = new_low, new_high
    if counts is None:
        msg = "HFMG calibration data is empty."
        raise CalibrationError(msg, hint="Calibrate with inputs that reach this layer.")
    return counts, low, high


def _bin_counts(values: Floats, low: np.float32, high: np.float32, bins: int) -> NDArray[np.int64]:
    width = (high - low) / np.float32(bins)
    if width < _EPSILON:
        counts = np.zeros(bins, np.int64)
        counts[bins // 2] = values.size
        return counts
    return np.bincount(_bin_of(values, low, width, bins), minlength=bins)


def _bin_of(values: Floats | np.float32, low: np.float32, width: np.float32, bins: int) -> NDArray[np.int64]:
    indices: NDArray[np.int64] = np.clip(((values - low) / width).astype(np.int64), 0, bins - 1)
    return indices


def _redistributed(
    counts: NDArray[np.int64], old: tuple[np.float32, np.float32], new: tuple[np.float32, np.float32]
) -> NDArray[np.int64]:
    """Old counts on the new range; a bin over a border is split linearly, the lower part rounded down."""
    bins = counts.size
    if abs(old[0] - new[0]) < _EPSILON and abs(old[1] - new[1]) < _EPSILON:
        return counts
    width, old_width = ((r[1] - r[0]) / np.float32(bins) for r in (new, old))
    result = np.zeros(bins, np.int64)
    for i in np.flatnonzero(counts):
        begin = old[0] + np.float32(i) * old_width
        first, last = (int(_bin_of(edge, new[0], width, bins)) for edge in (begin, begin + old_width))
        if first == last:
            result[first] += counts[i]
            continue
        border = new[0] + np.float32(first + 1) * width
        fraction = np.clip((border - begin) / old_width, np.float32(0), np.float32(1))
        lower_part = int(counts[i] * float(fraction))
        result[first] += lower_part
        result[last] += counts[i] - lower_part
    return result


def _search_ranges(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges (left, right) of bins, shrinking on the side where few counts lie over many bins."""
    quota = max(-(-int(counts.sum()) // 100000), 1)
    left, right = 0, counts.size - 1
    ranges = []
    while right - left > -(-counts.size // 4):
        next_left, passed = left, 0
        while passed < quota and next_left < right:
            passed += int(counts[next_left])
            next_left += 1
        next_right, passed = right, 0
        while passed < quota and next_right > next_left:
            passed += int(counts[next_right])
            next_right -= 1
        if next_left - left > right - next_right:
            left = next_left
        else:
            right = next_right
        ranges.append((left, right))
    return ranges or [(left, right)]  # AMCT has no candidate at all for few bins


def _range_loss(counts: NDArray[np.int64], width: np.float32, left: int, right: int, num_bits: int) -> np.float32:
    """L2 distance of uniformly filled source bins to the nearest of ``2^b`` destination centres over [left, right]."""
    last = 2**num_bits - 1
    dst = width * np.float32(right - left + 1) / np.float32(last + 1)
    nothing: np.float32 = np.float32(0)
    if dst < _EPSILON:
        return nothing
    half = dst / np.float32(2)
    bins = np.flatnonzero(counts)
    begin = (bins - left).astype(np.float32) * width
    end = begin + width
    density = counts[bins].astype(np.float32) / width
    first, final = (np.clip(np.floor(edge / dst).astype(np.int64), 0, last) for edge in (begin, end))
    first_centre, final_centre = (index.astype(np.float32) * dst + half for index in (first, final))

    def norm(a: Floats | np.float32, b: Floats | np.float32) -> Floats:
        integral: Floats = density * (b * b * b - a * a * a) / np.float32(3)
        return integral

    inside = first == final
    left_part = norm(begin - first_centre, np.where(inside, end - first_centre, half))
    middle = (final - first - 1).astype(np.float32) * norm(-half, half)
    right_part = norm(-half, end - final_centre)
    zero = np.zeros_like(middle)
    parts = np.stack([left_part, np.where(inside, zero, middle), np.where(inside, zero, right_part)], axis=1)
    total: np.float32 = np.cumsum(parts.ravel())[-1]  # adds one by one in float32, as a loop would
    return total


def _params(low: np.float32, high: np.float32, num_bits: int, *, asymmetric: bool) -> tuple[np.float32, int]:
    half, one = np.float32(2 ** (num_bits - 1)), np.float32(1)
    low, high = min(low, np.float32(0)), max(high, np.float32(0))
    if asymmetric:
        scale = _sanitise((high - low) / (half + half - one), _DOUBLE_EPSILON)
        return scale, int(-half - _round_half_away(low / scale))
    magnitude, levels = (high, half - one) if high > -low else (-low, half)
    return _sanitise(magnitude / levels, _DOUBLE_EPSILON), 0


# --- shift_bit search and balancing ---------------------------------------------------------------------------------


def search_n(y: Sequence[ArrayLike], scale_d: float, scale_w: ArrayLike) -> NDArray[np.int64]:
    """AMCT's SearchN: per channel the smallest shift N in 1..16 of least error ``Σ (clip16(s32 // 2^N)·2^N − s32)²``.

    Args:
        y: Outputs of the layer per batch, channel first: [C, …].
        scale_d: Activation scale.
        scale_w: Weight scales, 1 (one N for the whole tensor) or C.

    Returns:
        int64 [1] or [C]. The division truncates toward zero; ties go to the smallest N.
    """
    weights = np.atleast_1d(np.asarray(scale_w, np.float32))
    data = np.concatenate([np.asarray(b, np.float32).reshape(np.shape(b)[0], -1) for b in y], axis=1)
    rows = data.reshape(weights.size, -1)
    deq = np.float32(scale_d) * weights
    codes = _round_half_away(rows / deq[:, None]).astype(np.float64)
    errors = np.empty((weights.size, 16))
    for n in range(1, 17):
        step = 2.0**n
        shifted = np.clip(np.trunc(codes / step), -32768, 32767) * step
        errors[:, n - 1] = np.sum((shifted - codes) ** 2, axis=1)
    shifts: NDArray[np.int64] = np.argmin(errors, axis=1).astype(np.int64) + 1
    return shifts


def dmq_balancer(activation: ArrayLike, weight: ArrayLike, migration_strength: float = 0.5) -> Floats:
    """AMCT's DMQ factors ``A_c^m / W_c^(1−m)`` from channel maxima of magnitudes.

    Args:
        activation: [C, …].
        weight: [C, …], channels are the input channels.
        migration_strength: m in [0.2, 0.8].

    Returns:
        float32 [C]. Ones if either tensor is (nearly) zero; channels of zero range get the factor that leaves the
        largest range unchanged.
    """
    a, w = (np.abs(np.asarray(t, np.float32)).reshape(np.shape(t)[0], -1).max(axis=1) for t in (activation, weight))
    factors = np.ones(a.size, np.float32)
    if a.max() < _EPSILON or w.max() < _EPSILON:
        return factors
    m = np.float32(migration_strength)
    live = (a > 0) & (w > 0)
    factors[live] = np.power(a[live], m) / np.power(w[live], np.float32(1) - m)
    largest_w = (w * factors)[live].max(initial=0)
    largest_a = (a / factors)[live].max(initial=0)
    dead_a, dead_w = (a == 0) & (w > 0), (a > 0) & (w == 0)
    if live.any():
        factors[dead_a] = largest_w / w[dead_a]
        factors[dead_w] = a[dead_w] / largest_a
    return factors
