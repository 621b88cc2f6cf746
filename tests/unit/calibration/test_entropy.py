"""Entropy: the search against its definition written as a loop, and ONNX Runtime's own code for its form."""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.entropy import EntropyMethod
from ort_quant_plugin.calibration.methods.entropy_onnxruntime import onnxruntime_range
from ort_quant_plugin.calibration.sketch import Sketch

METHOD = EntropyMethod()


def by_onnxruntime(values: np.ndarray, levels: int, num_bins: int) -> tuple[float, float]:
    collector = HistogramCollector("entropy", False, num_bins, levels, None, None)
    collector.collect({"x": values})
    low, high = collector.compute_collection_result()["x"][:2]
    return float(low), float(high)


def by_definition(values: np.ndarray, grid: Grid, num_bins: int) -> tuple[float, float]:
    """One window after the other; grids with an offset only."""
    limit, levels = np.abs(values).max(), grid.steps
    counts, edges = np.histogram(values[values != 0], num_bins, range=(-limit, limit))
    used, middle = np.flatnonzero(counts), num_bins // 2
    best, bounds = np.inf, None
    for reach in range(1, middle + 1):
        start = max(middle - reach, min(used[0], middle))
        end = min(middle + reach, max(used[-1] + 1, middle))
        window = counts[start:end]
        if end - start < levels or 2 * window.sum() < counts.sum():
            continue
        p = window.astype(float)
        p[0] += counts[:start].sum()
        p[-1] += counts[end:].sum()
        q = np.zeros(window.size)
        for level in range(levels):
            group = slice(window.size * level // levels, window.size * (level + 1) // levels)
            filled = np.count_nonzero(window[group])
            if filled:
                q[group][window[group] > 0] = window[group].sum() / filled
        p, q = p / p.sum(), q / q.sum()
        divergence = float(np.sum(p * (np.log(p + 1e-30) - np.log(q + 1e-30))))
        if divergence < best - 1e-12:
            best, bounds = divergence, (float(edges[start]), float(edges[end]))
    return max(bounds[0], float(values.min())), min(bounds[1], float(values.max()))


@pytest.mark.parametrize(("grid", "num_bins"), [(Grid(4), 400), (Grid(8, reduce_range=True), 500)], ids=str)
def test_the_definition(grid, num_bins, values):
    expected = grid.params(*by_definition(values, grid, num_bins))
    params = METHOD.reference(values, grid, num_bins=num_bins)
    assert (params.scale, params.offset) == (pytest.approx(expected.scale, rel=1e-6), expected.offset)


# Sums there are float32: windows around a lone outlier, and of a few values, are told apart by their rounding.
@pytest.mark.parametrize(
    ("values", "levels"),
    [("gauss", 128), ("relu", 255), ("relu6, saturated", 255), ("bimodal", 15), ("swish", 128)],
    indirect=["values"],
)
def test_onnxruntime_with_2048_bins(values, levels):
    assert onnxruntime_range(values, levels) == by_onnxruntime(values, levels, 2048)


@pytest.mark.parametrize("values", ["gauss"], indirect=True)
@pytest.mark.parametrize("grid", [Grid(8), Grid(4, True), Grid(8, reduce_range=True)], ids=str)
def test_the_reference_is_onnxruntimes_with_the_levels_of_the_grid(values, grid):
    expected = grid.params(*by_onnxruntime(values, grid.steps, 2048))
    assert METHOD.reference(values, grid, as_onnxruntime=True) == expected


def test_onnxruntimes_defaults_do_nothing(values):
    """128 bins for 128 levels: one window, the whole range."""
    bounds = (float(values.min()), float(values.max()))
    assert by_onnxruntime(values, 128, 128) == bounds
    assert onnxruntime_range(values, 128, 128) == bounds


@pytest.mark.parametrize("grid", [Grid(8), Grid(8, True)], ids=["asymmetric", "symmetric"])
def test_ours_does_something(grid):
    values = np.random.default_rng(3).laplace(size=500_000)
    params = METHOD.choose(Sketch.of(values), grid)
    assert params.scale < 0.85 * grid.params(values.min(), values.max()).scale


@pytest.mark.parametrize("form", ["choose", "reference"])
def test_what_onnxruntime_cuts_off_is_kept(form, error_of):
    """The peak at the end of a ReLU6, and the upper half of a ReLU."""
    rng = np.random.default_rng(9)
    for relu in (np.clip(rng.normal(1, 3, 200_000), 0, 6), np.maximum(rng.normal(0, 2, 200_000), 0)):
        values = relu.astype(np.float32)
        whole = error_of(values, Grid().params(0, values.max()))
        data = Sketch.of(values) if form == "choose" else values
        assert error_of(values, getattr(METHOD, form)(data, Grid())) < 1.2 * whole
        assert error_of(values, getattr(METHOD, form)(data, Grid(), as_onnxruntime=True)) > 40 * whole


def test_exact_zeros_do_not_count():
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    more = np.append(values, np.zeros(100_000, np.float32))
    assert METHOD.choose(Sketch.of(more), Grid(4)) == METHOD.choose(Sketch.of(values), Grid(4))
    assert METHOD.reference(more, Grid(4)) == METHOD.reference(values, Grid(4))


def test_more_levels_than_bins_take_the_whole_range():
    values = np.random.default_rng(0).laplace(size=5000).astype(np.float32)
    expected = Grid().params(float(values.min()), float(values.max()))
    assert METHOD.choose(Sketch.of(values), Grid(), num_bins=254) == expected
    assert METHOD.choose(Sketch.of(values), Grid(), num_bins=512) != expected
