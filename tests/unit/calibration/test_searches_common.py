"""What holds for every method that searches a histogram: KLD, entropy, histogram, tf_enhanced."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS, Grid, ReferenceMethod
from ort_quant_plugin.calibration.methods.clipping import interval_params
from ort_quant_plugin.calibration.methods.entropy import EntropyMethod
from ort_quant_plugin.calibration.methods.histogram import HistogramMethod
from ort_quant_plugin.calibration.methods.kld import KldMethod
from ort_quant_plugin.calibration.methods.tf_enhanced import TfEnhancedMethod
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.errors import ConfigError, NumericsError

METHODS = [KldMethod(), EntropyMethod(), HistogramMethod(), TfEnhancedMethod()]
GRIDS = [
    Grid(bits, symmetric, unsigned, strict, reduced)
    for bits in (4, 8)
    for symmetric, unsigned, strict, reduced in (
        (False, False, False, False),
        (False, False, False, True),
        (True, False, False, False),
        (True, True, False, False),
        (True, False, True, False),
        (True, True, True, True),
    )
]

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
both_forms = pytest.mark.parametrize("form", ["choose", "reference"])
symmetries = pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])


def run(method, form, data, grid, **parameters):
    data = np.asarray(data, np.float32)
    return getattr(method, form)(Sketch.of(data) if form == "choose" else data, grid, **parameters)


@every_method
def test_interface(method):
    assert isinstance(method, ReferenceMethod)
    assert method.summary
    assert method.parameters[-len(GRID_PARAMETERS) :] == GRID_PARAMETERS


@every_method
@both_forms
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("data", [[0.0] * 99, [5.0] * 50, [-5.0] * 50, [3.5], [1e-40, -1e-42, 3e-44, 0]], ids=str)
def test_data_without_anything_to_clip_keeps_its_range(method, form, data, grid):
    """Zeros, constants, a single value and denormals; of these zeros and denormals have scale 1."""
    params = run(method, form, data, grid)
    assert params == grid.params(float(np.float32(min(data))), float(np.float32(max(data))))
    assert (params.scale == 1) == (max(map(abs, data)) < 1e-30)


@every_method
@both_forms
@symmetries
@pytest.mark.parametrize("data", [[1e30], [-1e30, 1.0], [3e38, 0]], ids=str)
def test_absurd_data_is_refused(method, form, data, symmetric):
    with pytest.raises(NumericsError, match="8388608"):
        run(method, form, data * 50, Grid(8, symmetric))


@every_method
@both_forms
@symmetries
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "data", [[0.0, 7.0], [-1.0, 1.0], [-2.0, 0.0, 5.0], [1.0, 1.0000001], [-1e-3, 1e6], [1e-5, 2e-3]], ids=str
)
def test_few_distinct_values(method, form, data, bits, symmetric):
    """Whatever is found, it is a legal scale, and the larger magnitude is not clipped to less than a third."""
    params = run(method, form, data * 20, Grid(bits, symmetric))
    extreme = max(data, key=abs)
    assert 0 < params.scale < 2**23
    assert abs(params.range[extreme > 0]) > abs(extreme) / 3


@every_method
@both_forms
@symmetries
@pytest.mark.parametrize("reduce_range", [False, True])
def test_16_bits_take_the_whole_range(method, form, symmetric, reduce_range, values):
    grid = Grid(16, symmetric, reduce_range=reduce_range)
    assert run(method, form, values, grid) == grid.params(float(values.min()), float(values.max()))


@every_method
@both_forms
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_parameters_lie_in_the_grid(method, form, grid):
    rng = np.random.default_rng(3)
    half = 1 << (grid.bits - 1)
    normal = rng.normal(size=20_000)
    for data in (normal, np.abs(normal), -np.abs(normal)):
        params = run(method, form, data, grid)
        assert params.num_bits == grid.num_bits
        assert -half <= params.offset < half
        if grid.symmetric:
            assert params.offset == (-half if grid.one_sided(data.min()) else 0)
        top = max(abs(code - params.offset) for code in (-half, half - 1)) * params.scale
        assert np.abs(data).max() / 4 < top < 1.4 * np.abs(data).max()


@every_method
@both_forms
def test_strict_and_unsigned_forms(method, form):
    """One-sided data: the unsigned form halves the scale; strict data of one sign loses nothing."""
    data = np.abs(np.random.default_rng(5).normal(size=50_000))
    plain, strict, unsigned = (
        run(method, form, data, Grid(8, True, **kind)).scale
        for kind in ({}, {"strict_symmetric": True}, {"unsigned_symmetric": True})
    )
    assert strict == pytest.approx(plain, rel=0.05)
    assert unsigned == pytest.approx(plain * 127 / 255, rel=0.2)


@every_method
@both_forms
def test_reduce_range_is_one_bit_less(method, form):
    data = np.random.default_rng(0).normal(size=5000)
    full, reduced = (run(method, form, data, Grid(8, True, reduce_range=less)) for less in (False, True))
    assert 1.5 * full.scale < reduced.scale < 2.1 * full.scale
    assert reduced.num_bits == 8


@every_method
@symmetries
def test_sums_do_not_matter(method, symmetric, values):
    sketch = Sketch.of(values)
    blind = dataclasses.replace(sketch, total=math.nan, total_abs=math.nan, total_squares=math.nan)
    assert method.choose(blind, Grid(8, symmetric)) == method.choose(sketch, Grid(8, symmetric))


@every_method
@pytest.mark.parametrize("bits", [4, 8])
def test_order_and_merging_do_not_matter(method, bits, values):
    shuffled = np.random.default_rng(1).permutation(values)
    parts = [Sketch.of(part) for part in np.array_split(shuffled, 7)]
    merged = parts[3]
    for part in parts[:3] + parts[4:]:
        merged = merged.merged_with(part)
    assert method.choose(merged, Grid(bits)) == method.choose(Sketch.of(values), Grid(bits))
    assert method.reference(shuffled, Grid(bits)) == method.reference(values, Grid(bits))


@every_method
@both_forms
@symmetries
def test_powers_of_two_only_change_the_scale(method, form, symmetric):
    values = np.random.default_rng(2).laplace(size=30_000)
    once, scaled = (run(method, form, values * factor, Grid(8, symmetric)) for factor in (1, 2.0**-9))
    assert (scaled.scale, scaled.offset) == (pytest.approx(once.scale * 2.0**-9, rel=1e-6), once.offset)


# (method, bits): how much larger the squared error of the sketch's choice may be, as the modules state.
BOUNDS = {
    ("kld", 8): 1.01,
    ("kld", 4): 1.01,
    ("entropy", 8): 1.01,
    ("entropy", 4): 1.15,
    ("histogram", 8): 1.01,
    ("histogram", 4): 1.06,
    ("tf_enhanced", 8): 1.01,
    ("tf_enhanced", 4): 1.01,
}


@every_method
@symmetries
@pytest.mark.parametrize("bits", [4, 8])
def test_the_sketch_is_as_good_as_the_values(method, bits, symmetric, values, error_of):
    grid = Grid(bits, symmetric)
    chosen, published = (run(method, form, values, grid) for form in ("choose", "reference"))
    assert error_of(values, chosen) <= BOUNDS[method.name, bits] * error_of(values, published)


@every_method
@pytest.mark.parametrize("bits", [4, 8])
def test_saturated_values_at_the_upper_end_count_there(method, bits):
    """ReLU6: as many values of exactly 6 as there are zeros; both lie on a bin's edge."""
    values = np.clip(np.random.default_rng(4).normal(3, 4, 100_000), 0, 6)
    chosen, published = (run(method, form, values, Grid(bits)) for form in ("choose", "reference"))
    assert (chosen.scale, chosen.offset) == (pytest.approx(published.scale, rel=1e-5), published.offset)
    assert chosen.range[1] == pytest.approx(6, rel=0.01)


@pytest.mark.parametrize("grid", [Grid(8), Grid(8, True), Grid(4)], ids=str)
def test_a_cut_never_loses_a_scale(grid):
    span = 3 * grid.steps * np.finfo(np.float32).eps
    params = interval_params(grid, -span / 100, span / 100, -span, span)
    assert params == grid.params(-span, span)
    assert params.scale < 1


def test_an_interval_is_cut_to_the_data():
    assert interval_params(Grid(), -9, 9, -1, 2) == Grid().params(-1, 2)
    assert interval_params(Grid(8, True), -3, 3, -8, -4) == Grid(8, True).params(-3, 0)
    assert interval_params(Grid(8, True, True), -3, 3, 1, 8) == Grid(8, True, True).params(0, 3)


@pytest.mark.parametrize(
    ("method", "name", "wrong"),
    [
        *[(KldMethod(), "bins", wrong) for wrong in (127, 8193, 2048.0, "2048", True)],
        *[(EntropyMethod(), "num_bins", wrong) for wrong in (126, 8194, 2047)],
        (EntropyMethod(), "as_onnxruntime", 1),
        *[(HistogramMethod(), "bins", wrong) for wrong in (127, 8193)],
        *[(TfEnhancedMethod(), "gamma", wrong) for wrong in (0.5, 101, math.nan, "3")],
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_parameters_out_of_range_are_refused(method, name, wrong):
    parameter = next(p for p in method.parameters if p.name == name)
    with pytest.raises(ConfigError, match=name):
        parameter.parse(wrong, "here")
    assert parameter.parse(parameter.default, "here") == parameter.default


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (KldMethod(), {"bins": 8192}),
        (KldMethod(), {"bins": 500}),
        (EntropyMethod(), {"num_bins": 4096}),
        (HistogramMethod(), {"bins": 1000}),
        (TfEnhancedMethod(), {"gamma": 1.0}),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
@both_forms
def test_parameters_change_the_outcome_a_little(method, form, parameters):
    values = np.random.default_rng(8).laplace(size=100_000)
    usual, other = run(method, form, values, Grid(4)), run(method, form, values, Grid(4), **parameters)
    assert other.scale != usual.scale
    assert other.scale == pytest.approx(usual.scale, rel=0.5)
