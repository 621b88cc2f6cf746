"""Intervals and tests against published values, exact enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ort_quant_plugin.gates.statistics import bootstrap, mcnemar, paired_drop_interval, resample, wilson


def paired(both, only_a, only_b, neither):
    """Hits of two models that give this 2×2 table."""
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return a, b


# Airway reactivity before and after a transplantation (Bentur et al. 2009), and response before and after a therapy
# (Cavo et al. 2012): the two running examples of Fagerland, Lydersen & Laake, Statistical Analysis of Contingency
# Tables (2017), chapter 8, computed there and by its R package "contingencytables".
BENTUR = paired(1, 1, 7, 12)
CAVO = paired(59, 6, 16, 80)


@pytest.mark.parametrize(("hits", "p"), [(BENTUR, 0.0703125), (CAVO, 0.052479)])
def test_mcnemar_published(hits, p):
    assert mcnemar(*hits) == pytest.approx(p, abs=5e-7)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),  # 2·P(X ≤ 3) is above 1
        (0, 1, 1.0),
        (5, 0, 2 / 2**5),
        (0, 10, 2 / 2**10),
        (1, 9, 2 * (1 + 10) / 2**10),
        (150, 86, 3.716e-05),  # Agresti, Categorical Data Analysis, table 10.1: z² = 17.36
    ],
)
def test_mcnemar_counts_only_what_differs(only_a, only_b, p):
    for both in (0, 100):
        assert mcnemar(*paired(both, only_a, only_b, both)) == pytest.approx(p, rel=1e-3)


def test_mcnemar_is_symmetric_and_survives_large_counts():
    a, b = paired(10, 20_000, 20_400, 10)
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(0.0471, abs=2e-4)  # normal: z = 399/√40400
    assert mcnemar(*paired(0, 0, 50_000, 0)) == 0.0  # 2⁻⁴⁹⁹⁹⁹ is below the smallest float


@pytest.mark.parametrize(("hits", "low", "high"), [(BENTUR, -0.5084, -0.0134), (CAVO, -0.1195, -0.0032)])
def test_bonett_price_published(hits, low, high):
    found = paired_drop_interval(*hits, 0.95)
    assert found == pytest.approx((low, high), abs=5e-5)


def test_bonett_price_keeps_a_width_where_nothing_differs():
    low, high = paired_drop_interval([1] * 50, [1] * 50, 0.95)
    assert low == -high
    assert 0 < high < 0.06


def test_bonett_price_ends_stay_possible():
    assert paired_drop_interval([1, 1], [0, 0], 0.999)[1] == 1


# Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published(hits, n, low, high):
    assert wilson(hits, n, 0.95) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(n - hits, n, 0.95)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_level_zero_is_the_estimate():
    assert wilson(30, 40, 0.0) == pytest.approx((0.75, 0.75))


def first_column(mean):
    return mean[:, 0]


def test_bootstrap_is_the_quantile_of_all_resamples():
    """5⁵ = 3125 equally likely resamples, enumerated."""
    rows = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    every = np.sort([np.mean(chosen) for chosen in itertools.product(rows[:, 0], repeat=5)])
    for level in (0.5, 0.9, 0.95):
        low, high = bootstrap(first_column, rows, level=level, resamples=200_000)
        exact = np.quantile(every, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        assert (low, high) == pytest.approx(exact, abs=0.21)  # neighbouring means are 0.2 apart


def test_two_samples():
    """Means 0, ½ and 1 with probabilities ¼, ½ and ¼."""
    draws = resample(first_column, [[0.0], [1.0]], resamples=20_000)
    values, counts = np.unique(draws, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 20_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.015)
    assert bootstrap(first_column, [[0.0], [1.0]], level=0.95) == (0, 1)
    assert bootstrap(first_column, [[0.0], [1.0]], level=0.4) == (0.5, 0.5)


# Efron & Tibshirani (1993), table 3.1: LSAT and GPA of 15 law schools; the correlation is 0.776 and its bootstrap
# standard error is 0.132 with 3200 replications (table 6.1).
LAW = np.array([
    [576, 3.39], [635, 3.30], [558, 2.81], [578, 3.03], [666, 3.44], [580, 3.07], [555, 3.00], [661, 3.43],
    [651, 3.36], [605, 3.13], [653, 3.12], [575, 2.74], [545, 2.76], [572, 2.88], [594, 2.96],
])  # fmt: skip


def correlation(mean):
    x, y, xx, yy, xy = mean.T
    return (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))


def test_bootstrap_of_a_function_of_several_means():
    x, y = (LAW - LAW.mean(axis=0)).T
    rows = np.stack([x, y, x * x, y * y, x * y], axis=1)
    assert correlation(rows.mean(axis=0, keepdims=True))[0] == pytest.approx(0.776, abs=5e-4)
    assert resample(correlation, rows, resamples=3200).std() == pytest.approx(0.132, abs=0.007)


def test_paired_draws_cancel_what_both_share():
    generator = np.random.default_rng(0)
    base = generator.normal(0, 100, (400, 1))
    low, high = bootstrap(first_column, base - 1, base, level=0.95)
    assert (low, high) == pytest.approx((1, 1), abs=1e-9)
    low, high = bootstrap(first_column, base - 1 + generator.normal(0, 1, (400, 1)), base, level=0.95)
    assert low < 1 < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(400), rel=0.15)


def test_coverage_of_the_mean():
    """A 90 % interval holds the truth about 90 times of 100; 300 trials leave ±5 %."""
    generator = np.random.default_rng(7)
    held = 0
    for trial in range(300):
        low, high = bootstrap(first_column, generator.exponential(1, (80, 1)), level=0.9, resamples=400, seed=trial)
        held += low <= 1 <= high
    assert 0.82 < held / 300 < 0.95


def test_the_same_rows_give_the_same_interval():
    rows = np.random.default_rng(1).random((50, 1))
    assert bootstrap(first_column, rows, level=0.9) == bootstrap(first_column, rows.tolist(), level=0.9)
    assert bootstrap(first_column, rows, level=0.9, seed=1) != bootstrap(first_column, rows, level=0.9)


def test_many_samples_are_drawn_in_parts():
    """A hundred thousand samples take more memory than is drawn at once; the width is that of the normal interval."""
    rows = np.random.default_rng(2).normal(0, 1, (100_000, 1))
    low, high = bootstrap(first_column, rows, level=0.95, resamples=200)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(100_000), rel=0.2)


def sqnr(mean):
    return 10 * np.log10(mean[:, 0] / mean[:, 1])


def test_infinite_values():
    """Draws without the one noisy sample have an infinite SQNR."""
    rows = [[1.0, 0.0]] * 9 + [[1.0, 0.1]]
    low, high = bootstrap(sqnr, rows, level=0.95)
    assert math.isfinite(low)
    assert high == math.inf


def test_equal_infinities_differ_by_nothing():
    rows = [[1.0, 0.0]] * 5
    assert bootstrap(sqnr, rows, rows, level=0.95) == (0, 0)


def test_undefined_values():
    low, high = bootstrap(lambda mean: np.log(mean[:, 0] - 0.5), [[0.0], [1.0], [1.0]], level=0.95)
    assert math.isnan(low)
    assert math.isnan(high)
