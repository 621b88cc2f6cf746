"""ONNX Runtime's search for the clip range of least entropy, as published (1.31, ``CalibrationMethod.Entropy``).

The histogram has N bins over ``[−t, t]``, ``t = max|x|``. Around the bin ``z = N // 2``, which begins at 0, the windows
``[z − i, min(z + i, N − 1)]`` are tried, ``i = L // 2 … z``, with L quantized levels:

* ``p`` = the counts of the window, all counts outside of it added to its first and last bin;
* ``q``: the window without them is cut into L groups of ``size // L`` bins. Each bin of a group gets the sum of the
  group over the number of its bins where ``p ≠ 0``, rounded down. What is left behind the last group counts to its
  sum, and gets 0;
* smoothing: in both, zeros become 1e−4, and all the others pay for it in equal shares;
* ``KL = Σ p·ln(p/q)`` of both, normalized.

The first window of the smallest KL wins; its range is cut to the data's. With as many bins as levels, the tool's
default, there is one window: the range is that of MinMax.

Sums here are float64, and the divergences of all windows come from sums of prefixes; so windows of almost the same
divergence may be told apart differently.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["best_window", "onnxruntime_range"]

_SMOOTHING = 1e-4


def onnxruntime_range(values: ArrayLike, levels: int = 255, num_bins: int = 2048) -> tuple[float, float]:
    """The range ONNX Runtime finds in one batch of data, with that many bins and quantized levels.

    Args:
        values: Finite, any shape, not all 0; read as float32.
        levels: ``num_quantized_bins``, at most ``num_bins``.
        num_bins: Bins of the histogram.

    Returns:
        The range, within that of the values.
    """
    values = np.asarray(values, np.float32).ravel()
    limit = np.abs(values).max()
    counts, edges = np.histogram(values, num_bins, range=(-limit, limit))
    start, end = best_window(counts.astype(np.float64), levels)
    return max(float(edges[start]), float(values.min())), min(float(edges[end]), float(values.max()))


class _Windows(NamedTuple):
    """All windows at once, (W,) each; bins ``[start, end)``."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    left: Floats  # counts before start
    right: Floats  # counts from end on
    first: Floats  # counts of the first bin
    last: Floats


def best_window(counts: Floats, levels: int) -> tuple[int, int]:
    """First and last edge of the window of least divergence."""
    middle = counts.size // 2
    reach = np.arange(levels // 2, middle + 1)
    start, end = middle - reach, np.minimum(middle + reach + 1, counts.size)
    inside = _prefix_sums(counts)
    windows = _Windows(start, end, inside[start], inside[-1] - inside[end], counts[start], counts[end - 1])
    index = int(np.argmin(_divergences(counts, windows, levels)))
    return int(start[index]), int(end[index])


def _divergences(counts: Floats, windows: _Windows, levels: int) -> Floats:
    """KL of every window, (W,).

    ``p`` is constant in no group but ``q`` is, so ``Σ p·ln p`` needs sums over the windows and ``Σ p·ln q`` sums over
    the groups.
    """
    size = windows.end - windows.start
    group_size = size // levels
    groups = windows.start[:, None] + group_size[:, None] * np.arange(levels + 1)
    trailing = size - group_size * levels

    # Counts and bins with counts, per group; then with what lies outside moved into the first and the last bin.
    mass_below, filled_below = _prefix_sums(counts), _prefix_sums(counts > 0)
    mass, filled = np.diff(mass_below[groups]), np.diff(filled_below[groups])
    tail_mass = mass_below[windows.end] - mass_below[groups[:, -1]]
    tail_filled = filled_below[windows.end] - filled_below[groups[:, -1]]
    quantized = mass.copy()
    quantized[:, -1] += tail_mass
    mass[:, 0] += windows.left
    filled[:, 0] += (windows.first == 0) & (windows.left > 0)
    last_fills = (windows.last == 0) & (windows.right > 0)
    in_tail = trailing > 0
    tail_mass, tail_filled = tail_mass + windows.right * in_tail, tail_filled + last_fills * in_tail
    mass[:, -1] += windows.right * ~in_tail
    filled[:, -1] += last_fills * ~in_tail

    # Smoothing: what each non-zero bin of p and of q pays.
    filled_bins = filled.sum(axis=1) + tail_filled
    p_share = _SMOOTHING * (size - filled_bins) / filled_bins
    q = np.floor(quantized / np.maximum(filled, 1)) * (filled > 0)
    q_filled = (q > 0).sum(axis=1) * group_size
    q_share = _SMOOTHING * (size - q_filled) / np.maximum(q_filled, 1)
    log_q = np.log(np.where(q > 0, q - q_share[:, None], _SMOOTHING))

    smooth = mass - p_share[:, None] * filled + _SMOOTHING * (group_size[:, None] - filled)
    smooth_tail = tail_mass - p_share * tail_filled + _SMOOTHING * (trailing - tail_filled)
    cross = (smooth * log_q).sum(axis=1) + smooth_tail * math.log(_SMOOTHING)
    total, q_total = counts.sum(), (q.sum(axis=1) * group_size)
    own = _own_entropy(counts, windows, p_share) + (size - filled_bins) * _SMOOTHING * math.log(_SMOOTHING)
    divergence = (own - cross) / total - math.log(total) + np.log(np.maximum(q_total, 1))
    return np.where(q_filled > 0, divergence, np.inf)


def _own_entropy(counts: Floats, windows: _Windows, share: Floats) -> Floats:
    """``Σ (c − e)·ln(c − e)`` over the non-zero bins of p; e, the window's share, is small against c.

    The inner bins by their Taylor series in e, whose coefficients are sums of prefixes; the two ends exactly.
    """
    log, inverse = np.log(np.maximum(counts, 1)), np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0)
    terms = (counts * log, -(log + (counts > 0)), inverse / 2, inverse**2 / 6, inverse**3 / 12)
    inner = np.zeros(share.size)
    for power, term in enumerate(terms):
        below = _prefix_sums(term)
        inner += (below[windows.end - 1] - below[windows.start + 1]) * share**power
    ends = (windows.first + windows.left, windows.last + windows.right)
    for end in ends:
        rest = np.where(end > 0, end - share, 1.0)
        inner += rest * np.log(rest)
    return inner


def _prefix_sums(terms: NDArray[Any]) -> Floats:
    return np.append(0.0, np.cumsum(terms, dtype=np.float64))
