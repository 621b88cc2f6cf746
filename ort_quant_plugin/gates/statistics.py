"""How far chance alone can move a measured value: exact tests and confidence intervals, with their sources.

Both models see the same samples, so everything that compares them is *paired*: what counts is the samples on which
they differ. The symbols: n samples; n₁₀ where only model a is right, n₀₁ where only model b is; z the normal quantile.

    McNemar    p = min(1, 2·P(X ≤ min(n₁₀, n₀₁))), X ~ Binomial(n₁₀ + n₀₁, ½)                                (G1)
    Wilson     (p̂ + z²/2n ± z·√(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n)                                            (G2)
    Bonett     d ± z·√((q₁₀ + q₀₁ − d²) / (n+2)),  q = (count + 1)/(n + 2),  d = q₁₀ − q₀₁                    (G3)
    bootstrap  the α/2 and 1−α/2 quantiles of the value over samples drawn with replacement                   (G4)

Sources: (G1) McNemar, Psychometrika 12 (1947), exact conditional form; (G2) Wilson, JASA 22 (1927);
(G3) Bonett & Price, Biometrical Journal 54 (2012), the adjusted Wald interval; (G4) Efron & Tibshirani, An
Introduction to the Bootstrap (1993), chapter 13, the percentile interval.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Values = NDArray[np.float64]

__all__ = ["Interval", "bootstrap", "mcnemar", "paired_drop_interval", "percentiles", "resample", "wilson"]

Interval = tuple[float, float]
"""Lower and upper end."""

_DRAWN_AT_ONCE = 4_000_000
"""Sample indices in memory at a time (32 MB); the result does not depend on it."""


def mcnemar(hits_a: ArrayLike, hits_b: ArrayLike) -> float:
    """Two-sided p-value of McNemar's exact test that two models are right equally often.   (G1).

    Args:
        hits_a: (n,) 0 or 1: whether model a is right.
        hits_b: (n,) likewise of model b, on the same samples.

    Returns:
        In (0, 1]; 1 where the models are right on the same samples.
    """
    fewer, more = sorted(_only_one_right(hits_a, hits_b))
    total, ways, tail = fewer + more, 1, 1
    for k in range(fewer):  # whole numbers: exact whatever the count
        ways = ways * (total - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << total))


def paired_drop_interval(hits_a: ArrayLike, hits_b: ArrayLike, level: float) -> Interval:
    """Confidence interval of how much less often model b is right than model a.   (G3).

    Args:
        hits_a: (n,) 0 or 1: whether model a is right.
        hits_b: (n,) likewise of model b, on the same samples.
        level: Two-sided level in [0, 1).

    Returns:
        Ends in [−1, 1].
    """
    only_a, only_b = _only_one_right(hits_a, hits_b)
    size = np.size(hits_a) + 2
    share_a, share_b = (only_a + 1) / size, (only_b + 1) / size
    middle = share_a - share_b
    half = _normal_quantile(level) * math.sqrt((share_a + share_b - middle**2) / size)
    return max(-1.0, middle - half), min(1.0, middle + half)


def wilson(hits: int, n: int, level: float) -> Interval:
    """Confidence interval of a share: Wilson's score interval.   (G2).

    Args:
        hits: Samples that count, 0…n.
        n: Samples, at least 1.
        level: Two-sided level in [0, 1).

    Returns:
        Ends in [0, 1].
    """
    z, share = _normal_quantile(level), hits / n
    middle = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def bootstrap(
    function: Callable[[Values], Any],
    rows: ArrayLike,
    other: ArrayLike | None = None,
    *,
    level: float,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of ``function`` of the mean row, or of a paired difference.   (G4).

    Args:
        function: From mean rows (m, k) to values (m,); vectorised.
        rows: (n, k): what each sample adds.
        other: (n, k): likewise of another model on the same samples. The interval is then that of
            function(other) − function(rows), both from the same draws.
        level: Two-sided level in [0, 1).
        resamples: Draws.
        seed: Of the draws: the same rows give the same interval everywhere.

    Returns:
        Ends, infinite where the function is; NaN where it is undefined in some draw.
    """
    return percentiles(resample(function, rows, other, resamples=resamples, seed=seed), level)


def percentiles(draws: Values, level: float) -> Interval:
    """The interval of :func:`bootstrap` from the values of :func:`resample`: one set of draws serves several levels."""
    if np.isnan(draws).any():
        return math.nan, math.nan
    ordered = np.sort(draws)
    return _quantile(ordered, (1 - level) / 2), _quantile(ordered, (1 + level) / 2)


def resample(
    function: Callable[[Values], Any],
    rows: ArrayLike,
    other: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Values:
    """The values behind :func:`bootstrap`.

    Returns:
        (resamples,) function of the mean row of n samples drawn with replacement, or its paired difference; equal
        values, infinite ones too, differ by 0.
    """
    ours = np.atleast_2d(np.asarray(rows, np.float64))
    theirs = None if other is None else np.atleast_2d(np.asarray(other, np.float64))
    generator, draws = np.random.default_rng(seed), np.empty(resamples)
    step = max(1, _DRAWN_AT_ONCE // len(ours))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        weights = _multinomial(generator, part.stop - start, len(ours))
        draws[part] = _difference(function, weights, ours, theirs)
    return draws


def _quantile(ordered: Values, share: float) -> float:
    """The first value that at least ``share`` of them do not exceed: between infinite ones nothing is interpolated."""
    index = math.ceil(round(share * len(ordered), 6)) - 1
    return float(ordered[max(index, 0)])


def _multinomial(generator: np.random.Generator, count: int, size: int) -> Values:
    """(count, size): how often each of ``size`` samples is drawn in ``size`` draws, divided by ``size``."""
    drawn = generator.integers(size, size=(count, size))
    drawn += size * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size) / size


def _difference(function: Callable[[Values], Any], weights: Values, ours: Values, theirs: Values | None) -> Values:
    with np.errstate(all="ignore"):  # a draw without any noise has an infinite SQNR
        value: Values = np.asarray(function(weights @ ours), np.float64)
        if theirs is None:
            return value
        base: Values = np.asarray(function(weights @ theirs), np.float64)
        return np.where(base == value, 0.0, base - value)


def _only_one_right(hits_a: ArrayLike, hits_b: ArrayLike) -> tuple[int, int]:
    right_a, right_b = np.asarray(hits_a) != 0, np.asarray(hits_b) != 0
    return int(np.count_nonzero(right_a & ~right_b)), int(np.count_nonzero(right_b & ~right_a))


def _normal_quantile(level: float) -> float:
    """Z such that a standard normal value lies in [−z, z] with probability ``level``."""
    return NormalDist().inv_cdf((1 + level) / 2)
