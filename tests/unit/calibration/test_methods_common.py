"""What holds for every method with a threshold, a percentile or a search of AMCT's."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.aciq_gauss import AciqGaussMethod
from ort_quant_plugin.calibration.methods.aciq_laplace import AciqLaplaceMethod
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS, CalibrationMethod, Grid, ReferenceMethod
from ort_quant_plugin.calibration.methods.hfmg import HfmgMethod
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod
from ort_quant_plugin.calibration.methods.minmax import MinmaxMethod
from ort_quant_plugin.calibration.methods.mse import MseMethod
from ort_quant_plugin.calibration.methods.percentile import PercentileMethod
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.errors import ConfigError, NumericsError
from ort_quant_plugin.qparams import dequantize, quantize

AMCT = [IfmrMethod(), HfmgMethod()]
OTHERS = [MinmaxMethod(), PercentileMethod(), MseMethod(), AciqGaussMethod(), AciqLaplaceMethod()]
METHODS = [*OTHERS, *AMCT]
GRIDS = [
    Grid(bits, symmetric, unsigned, strict, reduced)
    for bits, symmetric, unsigned, strict, reduced in itertools.product((4, 8, 16), *[(False, True)] * 4)
]

every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
both_forms = pytest.mark.parametrize("form", ["choose", "reference"])


def defaults(method: CalibrationMethod) -> dict:
    grid = {parameter.name for parameter in GRID_PARAMETERS}
    return {p.name: p.default for p in method.parameters if p.name not in grid}


def run(method, form, data, grid):
    data = np.asarray(data, np.float32)
    return getattr(method, form)(Sketch.of(data) if form == "choose" else data, grid, **defaults(method))


@every_method
def test_interface(method):
    assert isinstance(method, ReferenceMethod)
    assert method.summary
    names = [parameter.name for parameter in method.parameters]
    assert ("reduce_range" in names) == (method not in AMCT)


@every_method
@both_forms
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_all_zeros_give_scale_one(method, form, grid):
    params = run(method, form, np.zeros(100), grid)
    asymmetric = not grid.symmetric or (grid.unsigned_symmetric and method not in AMCT)
    assert params.scale == 1
    assert params.offset == (-(1 << (grid.bits - 1)) if asymmetric else 0)
    assert params.num_bits == grid.num_bits


@every_method
@both_forms
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("data", [[5.0] * 50, [-5.0] * 50, [3.0], [-3.0], [0.0, 7.0]], ids=str)
def test_few_distinct_values_are_kept(method, form, data, bits, symmetric):
    """Nothing is clipped to speak of: the extreme comes back within a step, and HFMG's half bin."""
    if method.name == "hfmg" and bits == 16 and len(data) == 2:
        pytest.skip("AMCT: cells below FLT_EPSILON cost nothing, so the interval of two bins wins")
    params = run(method, form, data, Grid(bits, symmetric))
    extreme = max(data, key=abs)
    code = quantize(extreme, params.scale, params.offset, bits)
    assert abs(dequantize(code, params.scale, params.offset) - extreme) <= params.scale + abs(extreme) / 8192


@every_method
@both_forms
@pytest.mark.parametrize("symmetric", [False, True])
def test_denormals_have_no_scale_of_their_own(method, form, symmetric):
    assert run(method, form, [1e-40, -1e-42, 3e-44, 0], Grid(8, symmetric)).scale in (1, pytest.approx(1))


@every_method
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("data", [[1e30], [-1e30, 1.0], [3e38, 0]], ids=str)
def test_absurd_data_is_refused(method, data, symmetric):
    with pytest.raises(NumericsError, match="8388608"):
        run(method, "choose", data * 50, Grid(8, symmetric))


@pytest.mark.parametrize("method", AMCT, ids=lambda m: m.name)
def test_a_span_beyond_float32_is_refused(method):
    with pytest.raises(NumericsError, match="8388608"):
        run(method, "choose", [3e38, -3e38, 1], Grid())


@every_method
def test_an_absurd_outlier_gives_a_scale_or_an_error(method):
    data = np.append(np.full(100_000, 1e-30), 1e30)
    try:
        params = run(method, "choose", data, Grid())
    except NumericsError:
        return
    assert 0 < params.scale <= 2**23


@every_method
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_parameters_lie_in_the_grid(method, grid):
    rng = np.random.default_rng(3)
    half = 1 << (grid.bits - 1)
    for data in (rng.normal(size=2000), np.abs(rng.normal(size=2000)), -np.abs(rng.normal(size=2000))):
        sketch = Sketch.of(data)
        params = method.choose(sketch, grid, **defaults(method))
        assert params.num_bits == grid.num_bits
        assert np.isfinite(params.scale)
        assert -half <= params.offset < half
        one_sided = grid.one_sided(sketch.minimum) and method not in AMCT
        if grid.symmetric:
            assert params.offset == (-half if one_sided else 0)
        # The bounds reach no further than the data (IFMR: 1.29 times as far) and no nearer than a sixth of it.
        top = max(abs(code - params.offset) for code in (-half, half - 1)) * params.scale
        assert sketch.absmax / 6 < top < 1.4 * sketch.absmax


@every_method
def test_reduce_range_is_one_bit_less(method):
    data = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    full, reduced = (run(method, "choose", data, Grid(8, True, reduce_range=r)) for r in (False, True))
    assert reduced.scale > 1.5 * full.scale
    assert reduced.num_bits == 8


@every_method
@pytest.mark.parametrize("symmetric", [False, True])
def test_sums_do_not_matter(method, symmetric, values):
    sketch = Sketch.of(values)
    blind = dataclasses.replace(sketch, total=math.nan, total_abs=math.nan, total_squares=math.nan)
    grid = Grid(8, symmetric)
    assert method.choose(blind, grid, **defaults(method)) == method.choose(sketch, grid, **defaults(method))


@every_method
def test_order_and_merging_do_not_matter(method, values):
    parts = [Sketch.of(part) for part in np.array_split(values, 7)]
    merged = parts[3]
    for part in parts[:3] + parts[4:]:
        merged = merged.merged_with(part)
    parameters = defaults(method)
    assert method.choose(merged, Grid(), **parameters) == method.choose(Sketch.of(values), Grid(), **parameters)


@every_method
def test_absent_parameters_take_their_defaults(method, values):
    sketch = Sketch.of(values)
    assert method.choose(sketch, Grid()) == method.choose(sketch, Grid(), **defaults(method))


@pytest.mark.parametrize(
    ("method", "name", "wrong"),
    [
        *[(PercentileMethod(), "percentile", wrong) for wrong in (50, 100.1, -1, "99", math.nan, True, None)],
        *[(IfmrMethod(), "max_percentile", wrong) for wrong in (0.5, 1.01)],
        (IfmrMethod(), "search_range", [1.3, 0.7]),
        (IfmrMethod(), "search_step", 0),
        *[(HfmgMethod(), "num_of_bins", wrong) for wrong in (1000, 4096.0)],
        *[(MseMethod(), parameter.name, 1) for parameter in GRID_PARAMETERS],
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_parameters_out_of_range_are_refused(method, name, wrong):
    parameter = next(p for p in method.parameters if p.name == name)
    with pytest.raises(ConfigError, match=name):
        parameter.parse(wrong, "here")
    assert parameter.parse(list(p) if isinstance(p := parameter.default, tuple) else p, "here") == parameter.default
