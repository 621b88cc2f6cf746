"""Min-max: the range of the data on every grid, and AIMET's own formula."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.minmax import MinmaxMethod, aimet_encoding
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.qparams import QuantParams

F32 = np.float32
METHOD = MinmaxMethod()


def test_the_sketch_gives_the_reference_exactly(values):
    for bits in (4, 8, 16):
        for symmetric in (False, True):
            grid = Grid(bits, symmetric)
            assert METHOD.choose(Sketch.of(values), grid) == METHOD.reference(values, grid)


@pytest.mark.parametrize(
    ("grid", "scale", "offset"),
    [
        (Grid(8), F32(8) / F32(255), -64),  # −128 − round(−2/0.0313725)
        (Grid(4), F32(8) / F32(15), -4),
        (Grid(16), F32(8) / F32(65535), -16384),
        (Grid(8, symmetric=True), F32(6) / F32(127), 0),
        (Grid(8, symmetric=True, unsigned_symmetric=True), F32(6) / F32(127), 0),
        (Grid(8, symmetric=True, reduce_range=True), F32(6) / F32(63), 0),
        (Grid(8, reduce_range=True), F32(8) / F32(127), -32),
    ],
    ids=str,
)
def test_by_hand(grid, scale, offset):
    assert METHOD.choose(Sketch.of([-2, 0.5, 6]), grid) == QuantParams(scale, offset, grid.num_bits)


def test_the_side_of_larger_magnitude_decides():
    sketch = Sketch.of([-6, 2])
    assert METHOD.choose(sketch, Grid(8, True)).scale == F32(6) / F32(128)
    assert METHOD.choose(sketch, Grid(8, True, strict_symmetric=True)).scale == F32(6) / F32(127)


def test_data_without_negative_values_may_take_all_codes():
    params = METHOD.choose(Sketch.of([1, 6]), Grid(8, True, unsigned_symmetric=True))
    assert params == QuantParams(F32(6) / F32(255), -128)


def test_aimet_takes_the_side_that_needs_the_larger_delta():
    """−1.005 is larger in magnitude but has one code more: AMCT takes 1.005/128, AIMET 1/127."""
    delta, offset = aimet_encoding(-1.005, 1.0, symmetric=True)
    assert (delta, offset) == (1 / 127, -128)
    assert METHOD.choose(Sketch.of([-1.005, 1.0]), Grid(8, True)).scale == F32(1.005) / F32(128)


def test_aimet_modes():
    assert aimet_encoding(0.0, 0.0) == (pytest.approx(1.1920929e-7), 0)
    assert aimet_encoding(1.0, 5.1) == (pytest.approx(0.02), 0)
    assert aimet_encoding(-5.1, -1.0) == (pytest.approx(0.02), -255)
    assert aimet_encoding(0.0, 5.1, symmetric=True, unsigned=True) == (pytest.approx(0.02), 0)
    assert aimet_encoding(-1.0, 5.1, symmetric=True, unsigned=True) == (pytest.approx(5.1 / 127), -128)
    assert aimet_encoding(-1.0, 0.5, 4, symmetric=True, strict=True) == (pytest.approx(1 / 7), -7)
    # halves away from zero: −0.5/1 → −1
    assert aimet_encoding(-0.5, 14.5, 4) == (1.0, -1)
