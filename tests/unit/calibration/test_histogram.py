"""Histogram: path and error against PyTorch's description written as loops; its numbers are in the golden tests."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.histogram import HistogramMethod, histogram_range
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.qparams import dequantize, quantize


def error_by_definition(counts: np.ndarray, start: int, end: int, levels: int) -> float:
    """Midpoint rule of 64 points a bin, instead of integrals."""
    points = (np.arange(counts.size * 64) + 0.5) / 64
    width = (end - start + 1) / levels
    level = np.clip(np.floor((points - start) / width), 0, levels - 1)
    return float(np.sum(np.repeat(counts / 64, 64) * (points - start - (level + 0.5) * width) ** 2))


def by_definition(values: np.ndarray, levels: int, bins: int) -> tuple[float, float]:
    low, high = values.min(), values.max()
    index = np.minimum(((values - low) * np.float32(bins) / (high - low)).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins).astype(np.float64)
    below, total = np.cumsum(counts), counts.sum()
    alpha, beta, start, end, least = 0.0, 1.0, 0, bins - 1, np.inf
    while alpha < beta:
        left, right = start, end
        while left < end and below[left] < np.float32((alpha + 1e-5) * total):
            left += 1
        while right > start and below[right] > np.float32((beta - 1e-5) * total):
            right -= 1
        proposal = (start, end)
        if left - start > end - right:
            proposal, alpha = (left, end), alpha + 1e-5
        else:
            proposal, beta = (start, right), beta - 1e-5
        if proposal == (start, end):
            continue
        error = error_by_definition(counts, *proposal, levels)
        if error > least:
            break
        least, (start, end) = error, proposal
    width = (float(high) - float(low)) / bins
    return float(low) + width * start, float(low) + width * (end + 1)


@pytest.mark.parametrize("levels", [16, 256])
def test_the_definition(levels, values):
    """With 512 bins, so that the sum in the definition stays fast."""
    low, high = by_definition(values, levels, 512)
    assert histogram_range(values, levels, 512) == (pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6))


@pytest.mark.parametrize("data", [[0, 7], [0, 0, 0, 1, 5], [-1, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9]], ids=str)
def test_few_values_end_the_search(data):
    low, high = histogram_range(np.repeat(np.array(data, np.float32), 20))
    assert min(data) <= low < high <= max(data)


def test_data_far_from_zero_is_searched_within_its_range():
    values = np.random.default_rng(0).normal(100, 1, 100_000).astype(np.float32)
    low, high = histogram_range(values, 16)
    assert values.min() <= np.float32(low) < 99 < 101 < high < values.max()


def test_the_result_beats_the_whole_range_with_4_bits():
    values = np.random.default_rng(0).laplace(size=100_000).astype(np.float32)

    def error(params):
        codes = quantize(values, params.scale, params.offset, 4)
        return np.mean((dequantize(codes, params.scale, params.offset) - values) ** 2)

    chosen = HistogramMethod().choose(Sketch.of(values), Grid(4))
    assert error(chosen) < 0.9 * error(Grid(4).params(values.min(), values.max()))


@pytest.mark.parametrize("grid", [Grid(8), Grid(8, reduce_range=True)], ids=["8 bits", "7 bits"])
def test_levels_are_the_codes_really_used(grid):
    values = np.random.default_rng(1).laplace(size=100_000).astype(np.float32)
    low, high = histogram_range(values, 2**grid.bits)
    assert HistogramMethod().reference(values, grid) == grid.params(low, high)


def test_no_more_bins_than_codes_take_the_whole_range():
    values = np.random.default_rng(1).laplace(size=100_000).astype(np.float32)
    whole = Grid().params(values.min(), values.max())
    assert HistogramMethod().choose(Sketch.of(values), Grid(), bins=255) == whole
    assert HistogramMethod().choose(Sketch.of(values), Grid(), bins=257) != whole
