"""OCTAV: the published iteration, and its form on the sketch."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.mse import MseMethod, octav_threshold
from ort_quant_plugin.calibration.sketch import Sketch

METHOD = MseMethod()


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_sketch_is_close_to_the_reference(values, bits, error_of):
    """Two bins of the threshold; the fixed point is near the least error, so the error hardly moves."""
    sketch, grid = Sketch.of(values), Grid(bits, True)
    chosen, published = METHOD.choose(sketch, grid), METHOD.reference(values, grid)
    codes = 1 << (bits - 1)
    assert abs(chosen.scale - published.scale) * codes <= 2 * sketch.width
    if bits < 16:
        assert error_of(values, chosen) <= 1.005 * error_of(values, published)


def test_all_zeros_have_the_threshold_one():
    assert octav_threshold(np.zeros(10)) == 1.0


def test_the_minimum_decides_whether_data_is_unsigned():
    data = np.abs(np.random.default_rng(1).laplace(size=20_000))
    with_zero = np.append(data, 0.0)
    assert octav_threshold(with_zero, 4) > 1.1 * octav_threshold(np.append(data, -0.01), 4)
    assert octav_threshold(with_zero, 4) == pytest.approx(octav_threshold(np.append(data, -1e-7), 4), rel=1e-3)


def test_one_step_by_hand():
    """b = 4, u = 1: 1, −1, 4 → s₀ = 2; s₁ = 4/(2·4⁻⁴/3 + 1), and so on to the next one, where it stays."""
    assert octav_threshold([1, -1, 4], 4) == pytest.approx(4 / (2 * 4.0**-4 / 3 + 1), abs=1e-12)


def test_a_step_below_the_tolerance_is_not_taken():
    """The start is kept: the whole iteration moves in steps below 1e-6."""
    data = np.array([-1, 2, 3]) * 1e-7
    assert octav_threshold(data) == pytest.approx(2e-7, rel=1e-6)


def test_minimizes_the_squared_error(error_of):
    """Of all thresholds for Laplace data at 4 bits, none is better by more than 2 %."""
    data = np.random.default_rng(2).laplace(size=50_000).astype(np.float32)
    params = METHOD.choose(Sketch.of(data), Grid(4, True))
    errors = [error_of(data, type(params)(np.float32(t / 8), 0, 4)) for t in np.linspace(2, 10, 81)]
    assert error_of(data, params) < 1.02 * min(errors)
