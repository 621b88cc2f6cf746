from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.errors import CalibrationError
from ort_quant_plugin.ops import reference

F32 = np.float32


def test_ascend_quant_rounds_half_to_even_before_the_offset():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], F32)
    assert reference.ascend_quant(x, 1.0).tolist() == [0, 2, 2, 0, -2]
    assert reference.ascend_quant(x, 1.0, 1).tolist() == [0, 2, 2, 0, -2]


def test_ascend_quant_saturates_around_the_offset():
    assert reference.ascend_quant([1e9, -1e9], 1.0, -100).tolist() == [227, -28]
    assert reference.ascend_quant([1e9, -1e9], 1.0, -100, int8_output=True).tolist() == [127, -128]


def test_half_precision_rounds_after_the_sum():
    # 2049 is not a float16: x becomes 2048, 2048·0.01 = 20.48 → 20.484375 + 0 → 20
    assert reference.ascend_quant([2049.0], 0.01, mode="FORCE_FP16_QUANT").tolist() == [20]
    # 0.45 + 100 rounds to 100.4375 in float16, the plain form gives rint(0.45) + 100
    assert reference.ascend_quant([0.45], 1.0, 100, mode="FORCE_FP16_QUANT").tolist() == [0]


def test_dequant_shift_floors():
    packed = np.array([0.5], F32).view(np.uint32).astype(np.uint64) | np.uint64(3 << 32)
    assert reference.ascend_dequant([[17.0, -17.0]], packed).tolist() == [[8.0, -12.0]]


def test_ifmr_counts_candidates_in_float32():
    """0.7 … 1.3 by 0.01 are 60 ratios: 1.30 is not among them, so the largest scale is 1.29·max/255."""
    x = np.array([0.0, 0.7, 10.0], F32)
    scale, _ = reference.ifmr(x)
    assert scale <= F32(1.2901) * F32(10) / F32(255)


def test_ifmr_refuses_bad_data():
    for data in ([], [np.nan], [np.inf, 1]):
        with pytest.raises(CalibrationError, match="empty or has inf/nan"):
            reference.ifmr(data)
    with pytest.raises(CalibrationError, match="expected at most 1/FLT_EPSILON"):
        reference.ifmr([1e12])


def test_hfmg_of_nothing():
    with pytest.raises(CalibrationError, match="empty"):
        reference.hfmg([[]])


def test_hfmg_keeps_all_counts():
    batches = [np.linspace(-1, 1, 1000), np.linspace(-5, 3, 777), np.linspace(-2, 9, 10)]
    counts, low, high = reference.hfmg_histogram(batches, 64)
    assert (counts.sum(), low, high) == (1787, -5, 9)


def test_dmq_published_values():
    a = np.array([[1, -4], [0.5, 0.25], [0, 0], [3, 1]])
    w = np.array([[0.5, 0.1], [0.2, -2], [1, 0.5], [0, 0]])
    want = [2.82842708, 0.5, 1.41421354, 2.12132049]
    np.testing.assert_allclose(reference.dmq_balancer(a, w), want, rtol=2e-7)
    assert reference.dmq_balancer(a * 0, w).tolist() == [1, 1, 1, 1]


def test_search_n_published_values():
    rows = np.array([[100, -101, 7], [70000, -123457, 33333], [5000000, -4000001, 1234567]])
    assert reference.search_n([rows], 1.0, [1.0, 1.0, 1.0]).tolist() == [1, 2, 8]
