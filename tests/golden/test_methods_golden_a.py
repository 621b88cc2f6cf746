"""Published results: min-max, percentile, OCTAV, ACIQ, IFMR and HFMG on frozen random data.

The figures of AIMET come from its binary, those of IFMR and HFMG on the ``lcg`` samples from AMCT's library; OCTAV,
ACIQ and IFMR on the numpy samples are re-implementations of what the tools publish.
"""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.aciq_gauss import AciqGaussMethod, aciq_gauss_threshold
from ort_quant_plugin.calibration.methods.aciq_laplace import AciqLaplaceMethod, aciq_laplace_threshold
from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.hfmg import HfmgMethod
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod
from ort_quant_plugin.calibration.methods.minmax import MinmaxMethod, aimet_encoding
from ort_quant_plugin.calibration.methods.mse import MseMethod, octav_threshold
from ort_quant_plugin.calibration.methods.percentile import aimet_percentile
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.qparams import dequantize, quantize


def random(name: str, *size: int) -> np.ndarray:
    """numpy's legacy generator, whose stream is frozen."""
    state = np.random.RandomState(1684)
    return (state.standard_normal(*size) if name == "normal" else state.laplace(0, 1, *size)).astype(np.float32)


NORMAL, LAPLACE = random("normal", 4096), random("laplace", 4096)
DATA = {"N": NORMAL, "L": LAPLACE, "R": np.maximum(NORMAL, 0), "O": np.append(NORMAL, np.float32(40))}
NAMES = tuple(DATA)


def rows(*expected):
    return pytest.mark.parametrize(("name", "expected"), list(zip(NAMES, expected, strict=True)), ids=NAMES)


@pytest.fixture(scope="module")
def large() -> dict[str, np.ndarray]:
    normal, laplace = random("normal", 1_000_000), random("laplace", 1_000_000)
    return {
        "laplace": laplace,
        "normal": normal,
        "laplace + 50": np.append(laplace, np.float32(50)),
        "relu": np.maximum(normal, 0),
    }


# --- the range --------------------------------------------------------------------------------------------------------


@rows((-3.4994967, 3.7510710), (-8.7899494, 7.4543185), (0, 3.7510710), (-3.4994967, 40))
def test_extremes(name, expected):
    data = DATA[name]
    assert (data.min(), data.max()) == (np.float32(expected[0]), np.float32(expected[1]))


@rows((0.028433599, -123), (0.063703012, -138), (0.014710082, 0), (0.170586262, -21))
def test_minmax_asymmetric(name, expected):
    data, (delta, offset) = DATA[name], expected
    assert aimet_encoding(float(data.min()), float(data.max())) == (pytest.approx(delta, rel=1e-7), offset)
    params = MinmaxMethod().choose(Sketch.of(data), Grid())
    assert (params.scale, params.offset) == (pytest.approx(delta, rel=1e-6), -128 - offset)


@rows(0.029535992, 0.068671480, 0.029535992, 0.314960630)
def test_minmax_symmetric(name, expected):
    data = DATA[name]
    delta, offset = aimet_encoding(float(data.min()), float(data.max()), symmetric=True)
    assert (delta, offset) == (pytest.approx(expected, rel=1e-7), -128)
    assert MinmaxMethod().choose(Sketch.of(data), Grid(8, True)).scale == pytest.approx(expected, rel=1e-6)


@rows(0.029535992, 0.069212200, 0.029535992, 0.314960630)
def test_minmax_strict(name, expected):
    data = DATA[name]
    delta, offset = aimet_encoding(float(data.min()), float(data.max()), symmetric=True, strict=True)
    assert (delta, offset) == (pytest.approx(expected, rel=1e-7), -127)
    grid = Grid(8, True, strict_symmetric=True)
    assert MinmaxMethod().choose(Sketch.of(data), grid).scale == pytest.approx(expected, rel=1e-6)


@rows((0.024324053, -133), (0.044915599, -140), (0.011607174, 0), (0.024655046, -134))
def test_aimet_percentile(name, expected):
    delta, offset = aimet_encoding(*aimet_percentile(DATA[name], 99.9))
    assert (delta, offset) == (pytest.approx(expected[0], rel=1e-6), expected[1])


# --- thresholds -------------------------------------------------------------------------------------------------------


@rows(3.6745368, 8.6106056, 3.7316401, 39.1836735)
def test_octav(name, expected):
    assert octav_threshold(DATA[name], 8) == pytest.approx(expected, abs=1e-7)


@rows(3.7683187, 8.4425917, 1.9495343, 22.6075516)
def test_aciq_gauss(name, expected):
    assert aciq_gauss_threshold(DATA[name]) == pytest.approx(expected, rel=2e-7)


@rows(7.9968896, 9.7312469, 4.4965682, 8.0911627)
def test_aciq_laplace(name, expected):
    assert aciq_laplace_threshold(DATA[name]) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "absmax", "octav8", "octav4", "gauss", "laplace"),
    [
        ("laplace", 13.557066, 9.855040, 5.033039, 10.506665, 9.898055),
        ("normal", 4.865180, 3.933451, 2.562567, 3.905115, 7.895765),
        ("laplace + 50", 50, 10.882647, 5.038801, 25.630636, 9.898541),
        ("relu", 4.818453, 4.070361, 2.751372, 1.943136, 4.569989),
    ],
)
def test_a_million_values(large, name, absmax, octav8, octav4, gauss, laplace):
    data = large[name]
    assert np.abs(data).max() == pytest.approx(absmax, abs=1e-6)
    assert octav_threshold(data, 8) == pytest.approx(octav8, abs=1e-6)
    assert octav_threshold(data, 4) == pytest.approx(octav4, abs=1e-6)
    assert aciq_gauss_threshold(data) == pytest.approx(gauss, rel=2e-7)
    assert aciq_laplace_threshold(data) == pytest.approx(laplace, rel=2e-7)
    # The sketch: what is left of the range is cut at T, so the strict symmetric scale is min(T, max)/127.
    sketch, strict = Sketch.of(data), Grid(8, True, strict_symmetric=True)
    for method, threshold in ((MseMethod(), octav8), (AciqGaussMethod(), gauss), (AciqLaplaceMethod(), laplace)):
        scale = method.choose(sketch, strict).scale
        assert scale * 127 == pytest.approx(min(threshold, absmax), rel=1e-4), method.name


# --- AMCT -------------------------------------------------------------------------------------------------------------

IFMR = IfmrMethod()
DEFAULTS = {parameter.name: parameter.default for parameter in IFMR.parameters}


def candidate(scale: float, base: float, low: float, levels: int) -> int:
    """Which of the ratios 0.70, 0.71 … gives the scale."""
    return round(((scale * levels + low) / base - 0.7) / 0.01)


@rows((0.0281394, -4, 28), (0.0637030, 10, 30), (0.0148572, -128, 31), (0.1690176, -107, 29))
def test_ifmr_asymmetric(name, expected):
    data, (scale, offset, index) = DATA[name], expected
    for params in (IFMR.reference(data, Grid(), **DEFAULTS), IFMR.choose(Sketch.of(data), Grid(), **DEFAULTS)):
        assert (params.scale, params.offset) == (pytest.approx(scale, abs=6e-8), offset)
        assert candidate(params.scale, float(data.max()), min(float(data.min()), 0), 255) == index


@rows((0.0289453, 28), (0.0679848, 29), (0.0298314, 31), (0.3086614, 28))
def test_ifmr_symmetric(name, expected):
    data, (scale, index) = DATA[name], expected
    base, levels = max((float(data.max()), 127), (-float(data.min()), 128))
    grid = Grid(8, True)
    for params in (IFMR.reference(data, grid, **DEFAULTS), IFMR.choose(Sketch.of(data), grid, **DEFAULTS)):
        assert (params.scale, params.offset) == (pytest.approx(scale, abs=6e-8), 0)
        assert candidate(params.scale, base, 0, levels) == index


@pytest.fixture(scope="module")
def amct(lcg) -> dict[str, np.ndarray]:
    a = lcg(1, 20_000, 3)
    high, low = a.copy(), a.copy()
    high[777], low[777] = 40, -40
    return {
        "A": a,
        "relu(A)": np.maximum(a, 0),
        "A+40": high,
        "A-40": low,
        "-|A|": -np.abs(a),
        "100 zeros": np.zeros(100, np.float32),
        "A then A2": np.concatenate([a, lcg(7, 20_000, 4)]),
    }


NARROW = {"search_range": (0.8, 1.2), "search_step": 0.02}
PERCENTILES = {"max_percentile": 0.999, "min_percentile": 0.999}


@pytest.mark.parametrize(
    ("changed", "name", "scale", "offset", "symmetric"),
    [
        ({}, "A", 0.0405273363, 1, 0.040631067),
        ({}, "relu(A)", 0.0208748933, -128, 0.040631067),
        ({}, "A+40", 0.172661334, -98, 0.28661415),
        ({}, "A-40", 0.176672593, 98, 0.287499994),
        ({}, "-|A|", 0.02130091, 127, 0.040313635),
        (NARROW, "A", 0.0405273363, 1, 0.0402033739),
        (PERCENTILES, "A", 0.0393009596, -4, 0.0402397923),
        ({}, "100 zeros", 1.0, -128, 1.0),
    ],
)
def test_ifmr_of_amct(amct, changed, name, scale, offset, symmetric):
    """All values give the published number; the sketch gives it or a candidate that costs as good as nothing more."""
    data, parameters = amct[name], {**DEFAULTS, **changed}
    for grid, published in ((Grid(), (scale, offset)), (Grid(8, True), (symmetric, 0))):
        exact, chosen = IFMR.reference(data, grid, **parameters), IFMR.choose(Sketch.of(data), grid, **parameters)
        assert (exact.scale, exact.offset) == (np.float32(published[0]), published[1])
        assert chosen == exact or (
            abs(chosen.scale / exact.scale - 1) < 0.012
            and squared_error(data, chosen) < 1.001 * squared_error(data, exact)
        )
        assert chosen.offset == exact.offset


def squared_error(data, params) -> float:
    codes = quantize(data, params.scale, params.offset)
    return float(np.sum((dequantize(codes, params.scale, params.offset).astype(np.float64) - data) ** 2))


@pytest.mark.parametrize(
    ("bins", "name", "scale", "offset", "symmetric"),
    [
        (4096, "A", 0.0405193828, 1, 0.0408487655),
        (1024, "A", 0.0406214483, 1, 0.0408487655),
        (4096, "relu(A)", 0.0201880205, -128, 0.0405350029),
        (4096, "A+40", 0.177323908, -99, 0.314873666),
        (4096, "A then A2", 0.0557735823, 1, 0.05638244),
    ],
)
def test_hfmg_of_the_sketch_is_near_amcts(amct, bins, name, scale, offset, symmetric):
    """Counts are known within a bin of the sketch, and the walk turns on single counts: 0.5 % of the scale."""
    sketch = Sketch.of(amct[name])
    params = HfmgMethod().choose(sketch, Grid(), num_of_bins=bins)
    assert params.scale == pytest.approx(scale, rel=5e-3)
    assert abs(params.offset - offset) <= 1
    assert HfmgMethod().choose(sketch, Grid(8, True), num_of_bins=bins).scale == pytest.approx(symmetric, rel=5e-3)
