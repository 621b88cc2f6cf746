"""Metrics: hand-computed values, edge cases, and independence of the batch split."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.metrics import (
    BUILTIN_METRICS,
    ErrorStats,
    agreement,
    cosine,
    max_abs_error,
    mse,
    sqnr_db,
    top_k,
)

X, Y = np.array([3.0, 4.0, 0.0]), np.array([3.0, 4.0, 0.5])


def test_hand_computed_values():
    assert sqnr_db(X, Y) == pytest.approx(20.0)  # 10·log10(25 / 0.25)
    assert mse(X, Y) == pytest.approx(0.25 / 3)
    assert max_abs_error(X, Y) == 0.5
    assert cosine(X, Y) == pytest.approx(25 / (5 * math.sqrt(25.25)))


def test_signs_and_scale():
    assert cosine(X, -X) == -1
    assert cosine(X, 7 * X) == pytest.approx(1)
    assert sqnr_db(X, -X) == pytest.approx(10 * math.log10(1 / 4))


def test_sums_are_float64():
    """float32 sums of 10 million ones stop at 2²⁴."""
    ones = np.ones(17_000_000, np.float32)
    stats = ErrorStats()
    stats.update(ones, ones * np.float32(0.5))
    assert stats.sum_xx == 17_000_000
    assert stats.mse == 0.25


def test_equal_tensors():
    stats = ErrorStats()
    stats.update(X, X)
    assert (stats.cosine, stats.sqnr_db, stats.mse, stats.max_abs_error) == (1, math.inf, 0, 0)
    report = stats.to_dict()
    assert report["exact"] is True
    assert report["sqnr_db"] is None
    assert json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("x", "y", "expected_cosine", "expected_sqnr"),
    [
        (np.zeros(3), np.zeros(3), 1, math.inf),
        (np.zeros(3), np.ones(3), 0, -math.inf),
        (np.ones(3), np.zeros(3), 0, 0),
    ],
)
def test_zero_tensors(x, y, expected_cosine, expected_sqnr):
    assert cosine(x, y) == expected_cosine
    assert sqnr_db(x, y) == expected_sqnr


def test_non_finite_values():
    masked = np.array([-np.inf, 1.0, np.nan])
    stats = ErrorStats()
    stats.update(masked, masked)
    assert stats.exact
    assert stats.nonfinite == 0
    stats.update(X, np.array([3.0, np.nan, 0.0]))
    stats.update(X, X)
    assert stats.nonfinite == 1
    assert math.isnan(stats.cosine)
    assert stats.sqnr_db == -math.inf
    assert stats.max_abs_error == math.inf
    report = stats.to_dict()
    assert (report["sqnr_db"], report["exact"], report["nonfinite"]) == (None, False, 1)
    assert json.dumps(report, allow_nan=False)
    opposite = ErrorStats()
    opposite.update([np.inf], [-np.inf])
    assert opposite.nonfinite == 1


def test_batches_add_up():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 7)), rng.normal(size=(30, 7))
    whole, parts = ErrorStats(), ErrorStats()
    whole.update(x, y)
    for start in range(0, 30, 4):
        parts.update(x[start : start + 4], y[start : start + 4])
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db, rel=1e-12)
    assert parts.cosine == pytest.approx(whole.cosine, rel=1e-12)
    assert parts.max_abs_error == whole.max_abs_error
    assert parts.count == whole.count == 210


def test_integers_and_bools_do_not_wrap():
    assert max_abs_error(np.array([0], np.uint8), np.array([255], np.uint8)) == 255
    assert max_abs_error(np.array([False]), np.array([True])) == 1


def test_shapes_must_agree():
    with pytest.raises(ModelError, match=r"\[3\] and \[2\]"):
        mse(np.ones(3), np.ones(2))


def test_agreement_and_top_k():
    reference = np.array([[1, 2, 3], [3, 2, 1], [1, 3, 2], [0, 0, 0]])
    other = np.array([[1, 2, 9], [2, 3, 1], [1, 3, 2], [0, 0, 0]])
    assert agreement(reference, other) == 0.75
    labels = np.array([2, 2, 2, 1])
    assert top_k(reference, labels, 1) == 0.25
    assert top_k(reference, labels, 2) == 0.75  # ties: the lower class comes first, so class 1 of row 3 is second
    assert top_k(reference, labels, 3) == 1
    assert top_k(np.array([[np.nan, 1.0]]), np.array([1]), 1) == 0


def test_builtin_metrics_take_reference_and_candidate():
    values = {name: metric(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]])) for name, metric in BUILTIN_METRICS.items()}
    assert set(values) == {"cosine", "sqnr_db", "mse", "max_abs_error", "agreement"}
    assert values["agreement"] == 1
    assert values["max_abs_error"] == 0.5
