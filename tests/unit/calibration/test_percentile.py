"""Percentile on raw values, on the sketch, and AIMET's form."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.percentile import PercentileMethod, aimet_percentile
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.qparams import QuantParams

METHOD = PercentileMethod()


def test_linear_interpolation_between_neighbours():
    """0 … 1000: the 99.95th percentile is at position 999.5, the 0.05th at 0.5."""
    data = np.arange(-500, 501)
    params = METHOD.reference(data, Grid(16), percentile=99.95)
    assert params.scale == pytest.approx(999 / 65535, rel=1e-6)


@pytest.mark.parametrize("percentile", [60.0, 99.0, 99.99, 100.0])
@pytest.mark.parametrize("symmetric", [False, True])
def test_bounds_are_within_a_bin(values, percentile, symmetric):
    grid, sketch = Grid(8, symmetric), Sketch.of(values)
    chosen = METHOD.choose(sketch, grid, percentile=percentile)
    published = METHOD.reference(values, grid, percentile=percentile)
    codes = 127 if symmetric else 255
    bins = 1 if symmetric else 2  # one a bound
    assert abs(chosen.scale - published.scale) * codes <= bins * sketch.width * 1.001
    if percentile == 100:
        assert chosen == published


def test_an_outlier_is_clipped():
    data = np.append(np.random.default_rng(0).normal(size=50_000), 40)
    assert METHOD.choose(Sketch.of(data), Grid(8, True)).scale * 127 < 5


def test_bounds_among_zeros_and_extremes_are_exact():
    data = np.append(np.zeros(99_000), np.full(1000, 6.0))
    assert METHOD.choose(Sketch.of(data), Grid(), percentile=90.0) == QuantParams(np.float32(1), -128)
    assert METHOD.choose(Sketch.of(data), Grid(), percentile=99.99).scale == np.float32(6) / np.float32(255)


@pytest.mark.parametrize("data", [[5.0], [-2.0, -2.0], [0.0, 0.0], [1e30, 1e30 * 1.0000001], [1e-44, 0]])
def test_aimet_form_of_degenerate_data(data):
    low, high = aimet_percentile(data, 99.0)
    assert low <= min(data) + 1e-6 * abs(min(data))
    assert high >= max(data) * 0.999 - 1e-44
    assert low <= 0 <= high
    assert aimet_percentile(data) == (min(*np.float32(data), 0), max(*np.float32(data), 0))
