"""KLD, tf_enhanced and histogram against what the tools they come from printed.

KLD: TPU-MLIR 1.30.2's ``kl_diversity_hist``; tf_enhanced: AIMET 2.42's ``libquant_info``; histogram: PyTorch 2.13.0's
``HistogramObserver`` (CPU). Data: numpy's frozen legacy generator, seed 1684, as float32.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from ort_quant_plugin.calibration.methods.base import Grid
from ort_quant_plugin.calibration.methods.histogram import HistogramMethod, histogram_range
from ort_quant_plugin.calibration.methods.kld import KldMethod, kld_threshold
from ort_quant_plugin.calibration.methods.tf_enhanced import (
    BucketLayout,
    TfEnhancedMethod,
    tf_enhanced_encoding,
)
from ort_quant_plugin.calibration.sketch import Sketch

MANY = 1_000_000


@cache
def data(name: str) -> np.ndarray:
    rng = np.random.RandomState(1684)
    drawn = {
        "N": lambda: rng.standard_normal(4096),
        "L": lambda: rng.laplace(0, 1, 4096),
        "R": lambda: np.maximum(data("N"), 0),
        "O": lambda: np.append(data("N"), 40),
        "laplace": lambda: rng.laplace(0, 1, MANY),
        "normal": lambda: rng.standard_normal(MANY),
        "laplace + 50": lambda: np.append(data("laplace"), 50),
        "relu": lambda: np.maximum(data("normal"), 0),
    }[name]()
    return drawn.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("N", "-3.4994967", "3.7510710"),
        ("L", "-8.7899494", "7.4543185"),
        ("R", "0.0000000", "3.7510710"),
        ("O", "-3.4994967", "40.0000000"),
    ],
)
def test_the_data_is_that_of_the_golden_values(name, low, high):
    assert (f"{data(name).min():.7f}", f"{data(name).max():.7f}") == (low, high)


# --- KLD ---


@pytest.mark.parametrize(
    ("name", "threshold"), [("N", "3.7529035"), ("L", "8.7942438"), ("R", "3.7529035"), ("O", "40.0195427")]
)
def test_kld(name, threshold):
    assert f"{kld_threshold(data(name)):.7f}" == threshold


LARGE = [
    ("laplace", 8, "13.563689"),
    ("laplace", 4, "6.252013"),
    ("normal", 8, "4.867557"),
    ("normal", 4, "3.555598"),
    ("laplace + 50", 8, "9.379580"),
    ("laplace + 50", 4, "5.862237"),
    ("relu", 8, "4.820807"),
    ("relu", 4, "3.559112"),
]


@pytest.mark.parametrize(("name", "bits", "threshold"), LARGE)
def test_kld_of_a_million_values(name, bits, threshold):
    assert f"{kld_threshold(data(name), bits):.6f}" == threshold


@pytest.mark.parametrize(("name", "bits", "threshold"), LARGE)
def test_kld_on_the_sketch_is_at_most_one_candidate_away(name, bits, threshold):
    largest = float(np.abs(data(name)).max())
    grid = Grid(bits, symmetric=True, strict_symmetric=True)
    params = KldMethod().choose(Sketch.of(data(name)), grid)
    step = largest / 2047 * 2 ** (bits - 1)
    away = abs(float(params.scale) * grid.positive_codes - min(float(threshold), largest)) / step
    assert away < 1e-4 or (name, bits) == ("laplace + 50", 4)
    assert away < 1.0001


# --- tf_enhanced ---

# AIMET rounds bucket edges in a way of its own: δ agrees within 2e-7 (N, three float32 units), the rest to the digit.
ULPS = 2e-7


def test_tf_enhanced_buckets():
    values = data("N")
    buckets = BucketLayout.of(float(values.min()), float(values.max()))
    counts = buckets.counts(values)
    assert f"{buckets.size:.8f}" == "0.01416126"
    assert buckets.first - 512 == -760  # AIMET's table has a range of margin
    assert -760 * buckets.size == pytest.approx(-10.7625606, abs=1e-6)
    assert np.count_nonzero(counts) == 380
    assert counts.sum() == values.size


@pytest.mark.parametrize(
    ("name", "delta", "offset"),
    [("N", 0.028433597, -124), ("L", 0.063703008, -138), ("R", 0.014710083, 0), ("O", 0.170586258, -21)],
)
def test_tf_enhanced_asymmetric(name, delta, offset):
    assert tf_enhanced_encoding(data(name)) == (pytest.approx(delta, rel=ULPS), offset)
    params = TfEnhancedMethod().reference(data(name), Grid())
    assert (params.scale, params.offset) == (pytest.approx(delta, rel=ULPS), -offset - 128)
    assert TfEnhancedMethod().choose(Sketch.of(data(name)), Grid()) == params


@pytest.mark.parametrize(
    ("name", "delta"), [("N", 0.029615350), ("L", 0.068485670), ("R", 0.029714350), ("O", 0.313185513)]
)
def test_tf_enhanced_symmetric(name, delta):
    assert tf_enhanced_encoding(data(name), symmetric=True) == (pytest.approx(delta, rel=ULPS), -128)
    params = TfEnhancedMethod().reference(data(name), Grid(symmetric=True))
    assert (params.scale, params.offset) == (pytest.approx(delta, rel=ULPS), 0)


@pytest.mark.parametrize(
    ("name", "delta"), [("N", 0.028260065), ("L", 0.068755291), ("R", 0.029831335), ("O", 0.308130145)]
)
def test_tf_enhanced_strict(name, delta):
    assert tf_enhanced_encoding(data(name), symmetric=True, strict=True) == (pytest.approx(delta, rel=ULPS), -127)
    params = TfEnhancedMethod().reference(data(name), Grid(symmetric=True, strict_symmetric=True))
    assert (params.scale, params.offset) == (pytest.approx(delta, rel=ULPS), 0)


@pytest.mark.parametrize(
    ("name", "delta", "offset"),
    [("N", 0.029615350, -128), ("L", 0.068485670, -128), ("R", 0.014710073, 0), ("O", 0.313185513, -128)],
)
def test_tf_enhanced_unsigned_symmetric(name, delta, offset):
    encoding = tf_enhanced_encoding(data(name), symmetric=True, unsigned_symmetric=True)
    assert encoding == (pytest.approx(delta, rel=ULPS), offset)
    params = TfEnhancedMethod().reference(data(name), Grid(symmetric=True, unsigned_symmetric=True))
    assert (params.scale, params.offset) == (pytest.approx(delta, rel=ULPS), -offset - 128)


def test_tf_enhanced_of_zeros():
    assert tf_enhanced_encoding(np.zeros(3)) == (2 / 255, -128)


# --- histogram ---


@pytest.mark.parametrize(
    ("name", "low", "high", "scale", "offset"),
    [
        ("N", -3.4994967, 3.74753022, 0.0284197126, -5),
        ("L", -8.78994942, 7.44638634, 0.0636719018, 10),
        ("R", 0, 3.74923944, 0.0147028994, -128),
        ("O", -3.4994967, 39.9787598, 0.170502961, -107),
        ("laplace", -10.0968094, 10.2067547, 0.0796218216, -1),
        ("normal", -3.95261097, 3.95316792, 0.0310030542, -1),
        ("laplace + 50", -10.7019634, 11.1147442, 0.0855557173, -3),
        ("relu", 0, 3.95499015, 0.0155097656, -128),
    ],
)
def test_histogram(name, low, high, scale, offset):
    assert histogram_range(data(name)) == (pytest.approx(low, rel=3e-7), pytest.approx(high, rel=3e-7))
    params = HistogramMethod().reference(data(name), Grid())
    assert (params.scale, params.offset) == (pytest.approx(scale, rel=3e-7), offset)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("N", -3.4994967, 3.73690963),
        ("L", -8.78994942, 7.42259216),
        ("O", -3.4994967, 39.9150391),
        ("laplace", -10.0968094, 9.69789314),
        ("normal", -3.95733929, 3.9484396),
        ("laplace + 50", -10.7019634, 11.0216446),
        ("relu", 0, 4.04674768),
    ],
)
def test_histogram_of_512_bins(name, low, high):
    found = histogram_range(data(name), bins=512)
    assert found == (pytest.approx(low, rel=3e-7), pytest.approx(high, rel=3e-7))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("N", -3.4994967, 2.84120965),
        ("L", -8.78994942, 4.67026711),
        ("R", 0, 2.60999823),
        ("O", -3.4994967, 3.7433393),
        ("laplace + 50", -9.55371571, 10.2147675),
    ],
)
def test_histogram_of_4_bits(name, low, high):
    """The observer's ``dst_nbins`` set to 16; PyTorch has no such type."""
    assert histogram_range(data(name), 16) == (pytest.approx(low, rel=3e-7), pytest.approx(high, rel=3e-7))


@pytest.mark.parametrize(
    ("name", "low", "high"), [("laplace", -6.90370512, 5.75421906), ("normal", -3.31428552, 2.67178869)]
)
def test_histogram_stops_a_bin_away_where_float32_decides(name, low, high):
    values = data(name)
    bin_width = (float(values.max()) - float(values.min())) / 2048
    assert histogram_range(values, 16) == (pytest.approx(low, rel=3e-7), pytest.approx(high, abs=1.01 * bin_width))
