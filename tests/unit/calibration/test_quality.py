"""Expected error, SQNR and clipped share of a sketch, against the values themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.quality import clipped_share, expected_sqnr, squared_error
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.metrics import sqnr_db
from ort_quant_plugin.qparams import QuantParams, dequantize, quantize


@pytest.fixture(params=[4, 8, 16])
def params_of(request):
    """Parameters for a share of the data's range."""

    def _params(values, share):
        return [
            Grid(request.param, symmetric).params(float(values.min()) * share, float(values.max()) * share)
            for symmetric in (False, True)
        ]

    return _params


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0, 1.7])
def test_squared_error_is_within_one_percent(values, params_of, share, error_of):
    for params in params_of(values, share):
        few = values.size < 100 or np.mean(values == values.max()) > 0.01  # the phase of single values counts
        if few and params.num_bits == 16:
            continue
        expected = error_of(values, params)
        # At 16 bits what a value loses is chance, so the sum over 50 000 of them spreads by half a percent.
        tolerance = 0.05 if few else 0.03 if params.num_bits == 16 else 0.01
        assert squared_error(Sketch.of(values), params) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_sqnr(values, share):
    params = Grid(8).params(float(values.min()) * share, float(values.max()) * share)
    restored = dequantize(quantize(values, params.scale, params.offset), params.scale, params.offset)
    expected = sqnr_db(values, restored)
    assert expected_sqnr(Sketch.of(values), params) == pytest.approx(expected, abs=0.3 if values.size < 100 else 0.05)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
def test_clipped_share(values, params_of, share):
    sketch = Sketch.of(values)
    for params in params_of(values, share):
        low, high = (bound + side * float(params.scale) / 2 for bound, side in zip(params.range, (-1, 1), strict=True))
        x = values.astype(np.float64)
        expected = np.mean((x < low) | (x > high))
        near = np.mean((np.abs(x - low) <= sketch.width) | (np.abs(x - high) <= sketch.width))
        assert clipped_share(sketch, params) == pytest.approx(expected, abs=near + 1e-12)
        assert 0 <= clipped_share(sketch, params) <= 1


def test_by_hand():
    """Scale 1, 8 bits: 0.25 becomes 0, 1.5 becomes 1 or 2, 200 becomes 127, 3 stays."""
    params = QuantParams(np.float32(1), 0)
    sketch = Sketch.of([0.25, 1.5, 200.0, 3.0, 0.0])  # bins of 2⁻⁵
    width = sketch.width
    assert width == 2**-5
    exact = 0.25**2 + 0.5**2 + 73**2
    assert squared_error(sketch, params) == pytest.approx(exact, abs=2 * width * (0.25 + 0.5 + 73))
    assert clipped_share(sketch, params) == 1 / 5


def test_a_bin_within_one_step_costs_its_centre_and_its_spread():
    """Two values in one bin [1, 1 + w), cut at both: (p² + pq + q²)/3 each, with p, q their distances to 1."""
    a, b = 1.00001, 1.0002
    sketch = Sketch.of([a, b])
    p, q = (float(np.float32(v)) - 1 for v in (a, b))
    error = squared_error(sketch, QuantParams(np.float32(1), 0))
    assert error == pytest.approx(2 * (p * p + p * q + q * q) / 3, rel=1e-9)
    middle, spread = (p + q) / 2, q - p
    assert error == pytest.approx(2 * (middle**2 + spread**2 / 12), rel=1e-9)


def test_steps_far_below_a_bin_are_noise():
    sketch = Sketch.of(np.random.default_rng(0).uniform(0.5, 1, 10_000))
    step = float(sketch.width) / 50.3
    error = squared_error(sketch, QuantParams(np.float32(step), -32768, 16))
    # 65535 steps of w/50 reach to 0.32 of the range only: compare where nothing is clipped
    reach = QuantParams(np.float32(1 / 65535), -32768, 16)
    assert error > 1
    assert squared_error(sketch, reach) == pytest.approx(10_000 / 65535**2 / 12, rel=0.01)


def test_constants_keep_their_place():
    sketch = Sketch.of([6.0] * 100)
    assert squared_error(sketch, QuantParams(np.float32(6), 0)) == 0
    assert expected_sqnr(sketch, QuantParams(np.float32(6), 0)) == math.inf
    assert clipped_share(sketch, QuantParams(np.float32(5.9) / np.float32(127), 0)) == 1


def test_half_a_step_beyond_the_range_is_no_clipping():
    """A float32 scale rounds: the maximum may lie a hair outside of the representable range."""
    sketch = Sketch.of([0.0, 6.0, 6.0, 6.0])
    for params in (Grid().params(0, 6.0), QuantParams(np.float32(5.99) / np.float32(255), -128)):
        assert clipped_share(sketch, params) == 0
    assert clipped_share(sketch, QuantParams(np.float32(5.9) / np.float32(255), -128)) == 0.75


def test_nothing_seen():
    for sketch in (Sketch(), Sketch.of([0.0, 0.0])):
        params = QuantParams(np.float32(1), 0)
        assert squared_error(sketch, params) == 0
        assert expected_sqnr(sketch, params) == math.inf
        assert clipped_share(sketch, params) == 0
