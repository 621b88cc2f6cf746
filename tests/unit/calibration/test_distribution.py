"""A sketch as a distribution, against the same questions asked of the values themselves."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ort_quant_plugin.calibration.distribution import (
    bin_edges,
    bins,
    cumulative,
    magnitude_bins,
    magnitude_counts,
    nth_largest,
    nth_smallest,
    points,
    quantile,
    rebinned,
)
from ort_quant_plugin.calibration.sketch import Sketch


def test_points_are_bin_centres_and_zeros():
    sketch = Sketch.of([-4.0, 0, 0, 4.0, 4.0, 7.9])  # absmax 7.9: bins of 2⁻¹⁰
    values, weights = points(sketch)
    width = 2.0**-10
    assert sketch.width == width
    assert weights.tolist() == [1, 2, 2, 1]
    np.testing.assert_allclose(values[:3], [-4 + width / 2, 0, 4 + width / 2], rtol=0, atol=0)
    assert abs(values[3] - 7.9) <= width / 2


def test_points_of_one_sided_data_keep_the_order():
    for data in ([0.0, 1.0], [-1.0, 0.0], [0.0]):
        values, weights = points(Sketch.of(data))
        assert (np.diff(values) > 0).all()
        assert weights.sum() == len(data)


def test_bins_end_at_the_extremes(values):
    sketch = Sketch.of(values)
    lower, upper, counts = bins(sketch)
    nonzero = values[values != 0]
    assert counts.sum() == nonzero.size
    hidden = sketch.zeros and not values.min() < 0 < values.max()  # behind the zeros, which are an extreme
    assert lower[0] == nonzero.min() or (hidden and lower[0] <= nonzero.min())
    assert upper[-1] == nonzero.max() or (hidden and upper[-1] >= nonzero.max())
    assert (upper >= lower).all()
    for i in range(0, lower.size, max(lower.size // 50, 1)):
        last = i == lower.size - 1
        inside = (nonzero >= lower[i]) & ((nonzero <= upper[i]) if last else (nonzero < upper[i]))
        assert inside.sum() == counts[i]


def test_magnitudes_fold_both_sides(values):
    sketch = Sketch.of(values)
    magnitudes = np.abs(values[values != 0]).astype(np.float64)
    expected = np.bincount(np.floor(magnitudes / sketch.width).astype(int))
    counts = magnitude_counts(sketch).astype(int)
    # A negative value on an edge counts one bin lower.
    assert counts.sum() == expected.sum()
    on_edge = int(np.sum((values < 0) & (magnitude_edges(values, sketch.width))))
    assert np.abs(counts - expected[: counts.size]).sum() <= 2 * on_edge
    lower, upper, weights = magnitude_bins(sketch)
    assert upper[-1] == sketch.absmax
    assert weights.sum() == magnitudes.size
    assert lower[0] <= magnitudes.min() <= upper[0]


def magnitude_edges(values, width):
    return values.astype(np.float64) % width == 0


def test_magnitudes_of_values_on_edges():
    """−1 = −4096 bins lies in the bin [−1, −1 + w), folded (1 − w, 1]; 1 lies in [1, 1 + w)."""
    counts = magnitude_counts(Sketch.of([-1.0, 1.0]))
    assert np.flatnonzero(counts).tolist() == [4095, 4096]
    lower, upper, _ = magnitude_bins(Sketch.of([-1.0, -1.0]))
    assert (lower.tolist(), upper.tolist()) == ([1.0], [1.0])
    assert magnitude_counts(Sketch.of([0.0])).size == 0


def test_magnitudes_far_from_zero_on_either_side():
    for sign in (1, -1):
        sketch = Sketch.of(sign * np.array([5.0, 6.5, 7.0]))
        counts = magnitude_counts(sketch)
        assert counts.sum() == 3
        lower, upper, _ = magnitude_bins(sketch)
        assert lower[0] == 5.0
        assert upper[-1] == 7.0


@pytest.mark.parametrize("zeros", [True, False])
def test_cumulative_counts_what_is_below(values, zeros):
    sketch = Sketch.of(values)
    counted = values if zeros else values[values != 0]
    at = np.linspace(values.min() - 0.1, values.max() + 0.1, 301)
    got = cumulative(sketch, at, zeros=zeros)
    for edge, below in zip(at, got, strict=True):
        lower, upper = edge - sketch.width, edge + sketch.width
        assert np.sum(counted < lower) - 1e-6 <= below <= np.sum(counted < upper) + 1e-6
    assert cumulative(sketch, values.min()) == 0
    assert cumulative(sketch, np.nextafter(values.max(), np.float32(np.inf))) == values.size


def test_cumulative_is_exact_at_bin_edges():
    data = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    sketch = Sketch.of(data)
    edges = bin_edges(sketch)[1:-1]
    expected = np.searchsorted(np.sort(data.astype(np.float64)), edges)
    assert cumulative(sketch, edges).tolist() == expected.tolist()


@pytest.mark.parametrize("value", [3.0, -3.0, 0.0])
def test_cumulative_of_one_value(value):
    sketch = Sketch.of([value] * 5)
    assert cumulative(sketch, [value - 1, value, value + 1]).tolist() == [0, 0, 5]


def test_rebinned_keeps_all_counts(values):
    sketch = Sketch.of(values)
    edges = np.linspace(values.min(), values.max(), 101)
    counts = rebinned(sketch, edges)
    assert counts.sum() == pytest.approx(values.size)
    expected, _ = np.histogram(values, edges)
    nearby = np.array([np.sum(np.abs(values - edge) <= sketch.width) for edge in edges])
    assert (np.abs(counts - expected) <= nearby[1:] + nearby[:-1] + 1e-6).all()


def test_ranks(values):
    sketch, ordered = Sketch.of(values), np.sort(values).astype(np.float64)
    for rank in (1, 2, 7, values.size // 3, values.size - 1, values.size):
        assert abs(nth_smallest(sketch, rank) - ordered[rank - 1]) <= sketch.width
        assert abs(nth_largest(sketch, rank) - ordered[-rank]) <= sketch.width
    assert nth_largest(sketch, 1) == nth_smallest(sketch, values.size) == values.max()
    assert nth_smallest(sketch, 1) == nth_largest(sketch, values.size) == values.min()


def test_ranks_never_decrease():
    sketch = Sketch.of(np.random.default_rng(1).integers(-3, 4, 400) * 0.001)
    ranks = [nth_smallest(sketch, rank) for rank in range(1, 401)]
    assert (np.diff(ranks) >= 0).all()
    assert ranks.count(0.0) == sketch.zeros


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 0.5, 0.9999, 1.0])
def test_quantile(values, share):
    sketch = Sketch.of(values)
    assert abs(quantile(sketch, share) - np.quantile(values.astype(np.float64), share)) <= sketch.width


def test_quantile_of_one_value():
    assert quantile(Sketch.of([3.5]), 0.3) == 3.5


def test_sums_do_not_matter(values):
    sketch = Sketch.of(values)
    blind = dataclasses.replace(sketch, total=math.nan, total_abs=math.nan, total_squares=math.nan)
    assert quantile(blind, 0.3) == quantile(sketch, 0.3)
    assert cumulative(blind, 0.1) == cumulative(sketch, 0.1)
    assert (magnitude_bins(blind).upper == magnitude_bins(sketch).upper).all()
    assert (points(blind)[0] == points(sketch)[0]).all()
