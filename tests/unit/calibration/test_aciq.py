"""ACIQ: published factors, factors derived from the model, and the form on the sketch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods import aciq_gauss, aciq_laplace
from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.sketch import Sketch


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("module", [aciq_gauss, aciq_laplace])
def test_the_model_gives_the_published_factors(module, bits):
    assert module._optimum(bits) == pytest.approx(module.clip_factor(bits), rel=1e-6)
    assert module._optimum(bits) != module.clip_factor(bits)  # what is published is taken as published


def gauss_model(alpha, bits):
    """2∫_α^∞ (x − α)² φ(x) dx + α²/(3·4^b), integrated numerically."""
    x = np.linspace(alpha, alpha + 12, 200_001)
    y = (x - alpha) ** 2 * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return 2 * float(np.sum((y[1:] + y[:-1]) / 2) * (x[1] - x[0])) + alpha**2 / (3 * 4.0**bits)


def laplace_model(alpha, bits):
    return 2 * math.exp(-alpha) + alpha**2 / (3 * 4.0**bits)


@pytest.mark.parametrize("bits", [3, 4, 7, 8, 15, 16])
@pytest.mark.parametrize(
    ("module", "model"), [(aciq_gauss, gauss_model), (aciq_laplace, laplace_model)], ids=["gauss", "laplace"]
)
def test_factors_minimize_the_model(module, model, bits):
    alpha = module.clip_factor(bits)
    assert model(alpha, bits) < min(model(alpha * 0.995, bits), model(alpha * 1.005, bits))


def test_gauss_on_the_sketch_is_exact(values):
    method = aciq_gauss.AciqGaussMethod()
    for grid in (Grid(4), Grid(8, True), Grid(16)):
        assert method.choose(Sketch.of(values), grid) == method.reference(values, grid)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_laplace_on_the_sketch_is_within_a_thousandth(values, bits):
    method = aciq_laplace.AciqLaplaceMethod()
    grid, sketch = Grid(bits, True), Sketch.of(values)
    chosen, published = method.choose(sketch, grid), method.reference(values, grid)
    assert chosen.scale == pytest.approx(published.scale, rel=1e-3)


def test_laplace_of_a_narrow_cluster():
    """All values in one bin: the deviation is that of an even spread between the extremes, a quarter of them."""
    data = np.linspace(1.0, 1.0002, 1001)
    deviation = aciq_laplace._mean_deviation(Sketch.of(data))
    assert deviation == pytest.approx(0.00005, rel=1e-2)


@pytest.mark.parametrize("module", [aciq_gauss, aciq_laplace])
def test_constants_have_no_deviation(module):
    threshold = module.aciq_gauss_threshold if module is aciq_gauss else module.aciq_laplace_threshold
    assert threshold([0.1] * 1000) == 0
    assert threshold([2.0]) == 0


def test_one_threshold_cuts_both_sides():
    data = np.append(np.random.default_rng(0).laplace(size=10_000), [-60, 50])
    method = aciq_laplace.AciqLaplaceMethod()
    threshold = aciq_laplace.aciq_laplace_threshold(data)
    assert 9 < threshold < 11
    assert method.reference(data, Grid()).scale == pytest.approx(2 * threshold / 255, rel=1e-6)
    assert method.reference(data, Grid(8, True)).scale == pytest.approx(threshold / 128, rel=1e-6)
    positive = np.abs(data)
    threshold = aciq_laplace.aciq_laplace_threshold(positive)
    assert method.reference(positive, Grid()).scale == pytest.approx(threshold / 255, rel=1e-6)
    assert method.reference(positive, Grid(8, True)).scale == pytest.approx(threshold / 127, rel=1e-6)
