"""Cosine, SQNR and errors from rows: the same as over the whole arrays, and defined where those are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError, DataError, ModelError
from ort_quant_plugin.gates.metrics import Batch, metric_named


def batch(reference: np.ndarray, **options) -> Batch:
    names = [f"s{i}" for i in range(len(reference))]
    return Batch(0, len(reference), names, None, {"y": reference}, {"output": None} | options)


def value(name: str, reference, candidate) -> float:
    reference, candidate = (np.asarray(array, np.float32) for array in (reference, candidate))
    metric = metric_named(name)
    rows = metric.rows(batch(reference), {"y": candidate})
    assert rows.shape == (len(reference), len(metric.columns))
    return float(metric.from_mean_rows(rows.mean(axis=0), {}))


REFERENCE = np.array([[3.0, 4.0], [0.0, 12.0]])  # Σx² = 169
CANDIDATE = np.array([[3.0, 3.0], [0.0, 12.0]])  # Σy² = 162, Σxy = 165, Σ(x−y)² = 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", 165 / math.sqrt(169 * 162)),
        ("sqnr_db", 10 * math.log10(169)),
        ("mse", 0.25),
        ("mae", 0.25),
    ],
)
def test_values_by_hand(name, expected):
    assert value(name, REFERENCE, CANDIDATE) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "expected"), [("cosine", 1), ("sqnr_db", math.inf), ("mse", 0), ("mae", 0)])
def test_equal_outputs(name, expected):
    assert value(name, REFERENCE, REFERENCE) == expected
    assert value(name, np.zeros((2, 2)), np.zeros((2, 2))) == expected


def test_an_all_zero_reference():
    assert value("cosine", np.zeros((2, 2)), CANDIDATE) == 0
    assert value("sqnr_db", np.zeros((2, 2)), CANDIDATE) == -math.inf


@pytest.mark.parametrize(
    ("name", "expected"), [("cosine", math.nan), ("sqnr_db", -math.inf), ("mse", math.inf), ("mae", math.inf)]
)
def test_one_nan_is_the_worst_value(name, expected):
    """Its row stays finite, so that it can be stored and resampled."""
    broken = CANDIDATE.copy()
    broken[0, 0] = np.nan
    assert value(name, REFERENCE, broken) == pytest.approx(expected, nan_ok=True)
    rows = metric_named(name).rows(batch(REFERENCE.astype(np.float32)), {"y": broken.astype(np.float32)})
    assert np.isfinite(rows).all()


def test_many_means_at_once():
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(5, 7)).astype(np.float32)
    candidate = reference + rng.normal(size=(5, 7)).astype(np.float32) / 10
    for name in ("cosine", "sqnr_db", "mse", "mae"):
        metric = metric_named(name)
        rows = metric.rows(batch(reference), {"y": candidate})
        together = metric.from_mean_rows(np.stack([rows.mean(axis=0), rows[:2].mean(axis=0)]), {})
        assert together.shape == (2,)
        assert together[1] == pytest.approx(value(name, reference[:2], candidate[:2]))


def test_shapes_must_agree():
    with pytest.raises(ModelError, match=r"shapes \[3\] and \[2\]"):
        metric_named("mse").rows(batch(np.zeros((2, 3), np.float32)), {"y": np.zeros((2, 2), np.float32)})


def test_several_outputs_must_be_named():
    reference = {"a": np.zeros((1, 2), np.float32), "b": np.ones((1, 2), np.float32), "n": np.zeros(1, np.int64)}
    candidate = {name: array + np.ones(1, array.dtype) for name, array in reference.items()}
    with pytest.raises(ConfigError, match="The outputs a, b all hold"):
        metric_named("mse").rows(Batch(0, 1, ["s"], None, reference, {"output": None}), candidate)
    rows = metric_named("mse").rows(Batch(0, 1, ["s"], None, reference, {"output": "b"}), candidate)
    assert rows.tolist() == [[2, 2, 0]]
    with pytest.raises(DataError, match="expected floating-point numbers"):
        metric_named("mse").rows(Batch(0, 1, ["s"], None, reference, {"output": "n"}), candidate)


@pytest.mark.parametrize(
    ("name", "expected"), [("cosine", math.nan), ("sqnr_db", -math.inf), ("mse", math.inf), ("mae", math.inf)]
)
def test_a_nan_in_both_models_is_no_equal_value(name, expected):
    broken = REFERENCE.copy()
    broken[0, 0] = np.nan
    assert value(name, broken, broken) == pytest.approx(expected, nan_ok=True)


def test_equal_infinities_are_equal():
    masked = REFERENCE.copy()
    masked[0, 0] = -np.inf
    assert value("sqnr_db", masked, masked) == math.inf
    assert value("mse", masked, masked) == 0
