"""Whatever the order and the partition of the data: every method chooses the same parameters, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS, Grid
from ort_quant_plugin.calibration.sketch import Sketch, merge
from ort_quant_plugin.errors import CalibrationError, NumericsError

METHODS = pytest.mark.parametrize("method", BUILTIN_METHODS, ids=lambda method: method.name)
FINE_PRINT = {parameter.name for parameter in GRID_PARAMETERS}
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def grids(draw):
    symmetric = draw(st.booleans())
    fine_print = {name: draw(st.booleans()) for name in FINE_PRINT}
    return Grid(draw(st.sampled_from([4, 8, 16])), symmetric, **fine_print)


@st.composite
def data(draw):
    """Finite values as layers make them, and as nobody expects them."""
    random = np.random.default_rng(draw(SEEDS))
    size = draw(st.integers(1, 3000))
    values = random.standard_normal(size)
    kind = draw(st.sampled_from(["normal", "relu", "laplace", "shifted", "negative", "wide", "constant", "zeros"]))
    if kind == "relu":
        values = np.maximum(values, 0)
    elif kind == "laplace":
        values = random.laplace(size=size)
    elif kind == "shifted":
        values = values + 10
    elif kind == "negative":
        values = -np.abs(values)
    elif kind == "wide":
        values = values * 10.0 ** random.integers(-20, 8, size)
    elif kind == "constant":
        values = np.full(size, values[0])
    elif kind == "zeros":
        values = np.zeros(size)
    with np.errstate(over="ignore"):
        values = values.astype(draw(st.sampled_from([np.float32, np.float16])))
    return values[np.isfinite(values)] if np.isfinite(values).any() else np.ones(1, np.float32)


def defaults(method):
    return {parameter.name: parameter.default for parameter in method.parameters if parameter.name not in FINE_PRINT}


def chosen(method, sketch, grid):
    """The choice, bit for bit, or the error's words."""
    try:
        params = method.choose(sketch, grid, **defaults(method))
    except (CalibrationError, NumericsError) as error:
        assert error.hint  # noqa: PT017 - most examples raise nothing
        return str(error)
    scale, offset = np.asarray(params.scale), np.asarray(params.offset)
    return scale.tobytes(), offset.tobytes(), params.num_bits


@METHODS
@settings(deadline=None, max_examples=25)
@given(values=data(), grid=grids(), seed=SEEDS, parts=st.integers(1, 8))
def test_order_and_partition_change_nothing(method, values, grid, seed, parts):
    shuffled = np.random.default_rng(seed).permutation(values)
    merged = merge(Sketch.of(part, "x") for part in np.array_split(shuffled, parts))["x"]
    assert chosen(method, merged, grid) == chosen(method, Sketch.of(values, "x"), grid)


@METHODS
@settings(deadline=None, max_examples=25)
@given(values=data(), grid=grids(), factor=st.floats(0.5, 2))
def test_the_rounded_sums_are_not_used(method, values, grid, factor):
    sketch = Sketch.of(values, "x")
    other = replace(
        sketch, total=sketch.total * factor, total_abs=sketch.total_abs * factor, total_squares=sketch.total_squares * 3
    )
    assert chosen(method, other, grid) == chosen(method, sketch, grid)


@METHODS
@settings(deadline=None, max_examples=15)
@given(values=data(), grid=grids())
def test_a_sketch_read_back_gives_the_same_choice(method, values, grid):
    sketch = Sketch.of(values, "x")
    assert chosen(method, Sketch.from_bytes(sketch.to_bytes()), grid) == chosen(method, sketch, grid)
