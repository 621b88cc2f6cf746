"""tf_enhanced: candidates and cost against AIMET's description as a loop; its numbers are in the golden tests."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.tf_enhanced import TfEnhancedMethod, tf_enhanced_encoding
from ort_quant_plugin.calibration.sketch import Sketch

METHOD = TfEnhancedMethod()


def away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def cost(values: np.ndarray, delta: float, offset: float, bits: int, gamma: float) -> float:
    """Every value stands for the middle of its bucket."""
    size = (float(values.max()) - float(values.min())) / 512
    middle = (np.floor(values.astype(np.float64) / size) + 0.5) * size
    low, high = ((np.floor(delta * code / size) + 0.5) * size for code in (offset, offset + 2**bits - 1))
    rounded = delta * (away(middle / delta - offset) + offset)
    below, above = middle < low - size / 2, middle >= high - size / 2
    error = np.where(below, gamma * (middle - low) ** 2, np.where(above, gamma * (middle - high) ** 2, 0))
    return float(np.mean(np.where(below | above, error, (middle - rounded) ** 2)))


def asymmetric_candidates(values: np.ndarray, bits: int):
    size = (float(values.max()) - float(values.min())) / 512
    low, high = (float(np.floor(float(x) / size)) * size for x in (values.min(), values.max()))
    low, high, steps = min(low, 0), max(high, 0), 2**bits - 1
    delta = (high - low) / steps
    offset = away(low / delta)
    floor, ceiling = delta * offset, delta * (offset + steps)
    for f in range(1, 18):
        for i in range(21):
            step, code = f / 16 * delta, np.trunc(-steps + steps / 20 * i)
            bottom, top = step * code, step * (code + steps)
            if bottom < floor - 1e-7 * delta and top > ceiling + 1e-7 * delta:
                continue
            bottom, top = max(bottom, floor), min(top, ceiling)
            if bottom < top:
                yield (top - bottom) / steps, away(bottom / ((top - bottom) / steps))
    yield delta, offset


@pytest.mark.parametrize("gamma", [3.0, 1.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_candidate_is_cheaper(bits, gamma, values):
    values = values[:2000]
    delta, offset = tf_enhanced_encoding(values, bits, gamma=gamma)
    costs = [cost(values, *candidate, bits, gamma) for candidate in asymmetric_candidates(values, bits)]
    # In float32 the range of all codes may end in the bucket below that of the maximum.
    assert cost(values, delta, offset, bits, gamma) <= min(costs) * 1.01
    assert any(delta == pytest.approx(d, rel=1e-5) and offset == o for d, o in asymmetric_candidates(values, bits))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_symmetric_candidate_is_cheaper(bits, strict, values):
    values = values[:2000]
    delta, offset = tf_enhanced_encoding(values, bits, symmetric=True, strict=strict)
    assert offset == (-(2 ** (bits - 1)) + strict)
    shares = np.arange(1, 102) / 100
    size = (float(values.max()) - float(values.min())) / 512
    largest = max(abs(np.floor(float(x) / size) * size) for x in (values.min(), values.max()))
    largest /= (2**bits - 1 - strict) / 2
    best = min(cost(values, share * largest, offset, bits, 3.0) for share in shares)
    assert cost(values, delta, offset, bits, 3.0) <= best * 1.01
    assert np.abs(shares * largest / delta - 1).min() < 1e-5


def test_more_weight_on_clipping_widens_the_range():
    sketch = Sketch.of(np.random.default_rng(0).laplace(size=100_000))
    scales = [METHOD.choose(sketch, Grid(4), gamma=gamma).scale for gamma in (1.0, 3.0, 100.0)]
    assert scales == sorted(scales)
    assert scales[0] < scales[2]


@pytest.mark.parametrize("bits", [4, 8])
def test_offsets_mean_the_same_as_those_of_a_range(bits, values):
    """The code of 0 lies where the grid would put it for the range that was found."""
    params = METHOD.choose(Sketch.of(values), Grid(bits))
    assert Grid(bits).params(*params.range).offset == params.offset


@pytest.mark.parametrize("grid", [Grid(8, reduce_range=True), Grid(8, True, True, reduce_range=True)], ids=str)
def test_a_reduced_range_counts_from_its_own_lowest_code(grid):
    values = np.maximum(np.random.default_rng(0).normal(size=50_000), 0).astype(np.float32)
    params = METHOD.choose(Sketch.of(values), grid)
    assert params.offset == -64
    assert params.scale == pytest.approx(values.max() / 127, rel=0.1)


def test_data_around_one_value_far_from_zero_is_kept():
    """AIMET's table of buckets ends next to the data: any clipping would look free."""
    values = np.linspace(10, 10.001, 100)
    for grid in (Grid(8), Grid(8, True), Grid(8, True, strict_symmetric=True)):
        assert METHOD.choose(Sketch.of(values), grid).range[1] == pytest.approx(10, rel=0.02)


def test_scales_do_not_fall_below_the_smallest_one():
    values = np.random.default_rng(0).laplace(size=50_000) * 2e-6
    params = METHOD.choose(Sketch.of(values), Grid(4, True))
    assert np.finfo(np.float32).eps <= params.scale < 1
