"""KLD: the search against the published definition written as a loop, and its known consequences."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.kld import KldMethod, kld_threshold
from ort_quant_plugin.calibration.sketch import Sketch


def by_definition(values: np.ndarray, bits: int, bins: int) -> float:
    """One candidate after the other, one group after the other."""
    magnitudes = np.abs(values[values != 0]).astype(np.float32)
    width = magnitudes.max() / np.float32(bins - 1)
    counts = np.zeros(bins)
    np.add.at(counts, np.floor(magnitudes / np.float64(width) + 0.5).astype(int), 1)
    levels = 2 ** (bits - 1)
    counts = np.append(counts, np.zeros(-bins % levels))
    best, threshold = np.inf, 0.0
    for kept in range(levels, counts.size + 1, levels):
        p = counts[:kept].copy()
        p[-1] += counts[kept:].sum()
        q = np.zeros(kept)
        size = kept // levels
        for begin in range(0, kept, size):
            group = counts[begin : begin + size]
            if group.any():
                q[begin : begin + size][group > 0] = group.sum() / np.count_nonzero(group) / counts[:kept].sum()
        p /= counts.sum()
        divergence = float(np.sum(p * (np.log10(p + 1e-30) - np.log10(q + 1e-30)))) if counts[:kept].any() else np.inf
        if divergence < best - 1e-12:
            best, threshold = divergence, float(width) * kept
    return threshold


@pytest.mark.parametrize("bits", [4, 7, 8])
@pytest.mark.parametrize("bins", [2048, 500, 130])
def test_the_definition(bits, bins, values):
    assert kld_threshold(values, bits, bins) == pytest.approx(by_definition(values, bits, bins), rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_definition_on_sparse_data(seed):
    rng = np.random.default_rng(seed)
    values = (rng.laplace(size=rng.integers(3, 300)) ** 3).astype(np.float32)
    assert kld_threshold(values, 4) == pytest.approx(by_definition(values, 4, 2048), rel=1e-6)


def test_zeros_do_not_count():
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    assert kld_threshold(np.append(values, np.zeros(9999)), 4) == kld_threshold(values, 4)
    assert kld_threshold(np.zeros(5)) == 0


def test_sign_and_shape_do_not_count():
    values = np.random.default_rng(0).normal(size=(10, 20, 30))
    assert kld_threshold(values, 4) == kld_threshold(-values.ravel(), 4)


def test_denormals_have_a_threshold():
    assert 0 < kld_threshold([1e-40, 3e-41, 2e-45]) < 2e-40


def test_the_range_is_what_the_data_has_of_the_threshold():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(size=500_000), [50], [-2.5]]).clip(-2.5, 50).astype(np.float32)
    threshold = kld_threshold(values)
    assert 2.5 < threshold < 10
    for form, data in (("choose", Sketch.of(values)), ("reference", values)):
        params = getattr(KldMethod(), form)(data, Grid())
        expected = Grid().params(-2.5, threshold)
        assert (params.scale, params.offset) == (pytest.approx(expected.scale, rel=1e-6), expected.offset)


def test_a_lone_outlier_in_few_values_is_kept():
    values = np.append(np.random.default_rng(1).normal(size=4096), 40)
    assert KldMethod().choose(Sketch.of(values), Grid()).range[1] == pytest.approx(40, rel=0.01)
