"""top-k and agreement: hits per sample, ties, NaN, labels that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError, DataError
from ort_quant_plugin.gates.metrics import Batch, metric_named

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.3, 0.2, 0.5], [np.nan, 0.9, 0.1]], np.float32)


def batch(size: int, *, labels=None, reference=None, **options) -> Batch:
    return Batch(0, size, [f"s{i}" for i in range(size)], labels, reference, {"output": None} | options)


def test_top1_by_hand():
    """Row 1 ties: the lower class is the answer. Row 3 holds a NaN: no answer is right."""
    rows = metric_named("top1").rows(batch(4, labels=[1, 1, 2, 1]), {"logits": SCORES})
    assert rows.tolist() == [[1], [0], [1], [0]]


@pytest.mark.parametrize(("k", "hits"), [(1, [0, 0, 0]), (2, [1, 1, 0])])
def test_top_k_by_hand(k, hits):
    rows = metric_named("top_k").rows(batch(3, labels=[2, 1, 1], k=k), {"logits": SCORES[:3]})
    assert rows[:, 0].tolist() == hits


def test_top5_takes_five_of_six():
    scores = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert metric_named("top5").rows(batch(2, labels=[0, 1]), {"y": scores})[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("label", [-1, 3])
def test_label_outside_of_the_classes(label):
    with pytest.raises(DataError, match=rf"A label is {label}, but output 'logits' has 3 classes \(0 to 2\)"):
        metric_named("top1").rows(batch(1, labels=[label]), {"logits": SCORES[:1]})


def test_agreement_by_hand():
    other = SCORES.copy()
    other[0] = [0.8, 0.1, 0.1]
    metric = metric_named("agreement")
    rows = metric.rows(batch(4, reference={"logits": SCORES}), {"logits": other})
    assert rows[:, 0].tolist() == [0, 1, 1, 0]
    assert metric.equal_value == 1.0


def test_the_output_is_chosen():
    outputs = {"boxes": np.zeros((2, 4, 3), np.float32), "logits": SCORES[:2]}
    assert metric_named("top1").rows(batch(2, labels=[1, 0]), outputs)[:, 0].tolist() == [1, 1]
    outputs["aux"] = SCORES[:2]
    with pytest.raises(ConfigError, match="The outputs logits, aux all hold class scores") as error:
        metric_named("top1").rows(batch(2, labels=[1, 0]), outputs)
    assert "output='logits'" in error.value.hint
    assert metric_named("top1").rows(batch(2, labels=[1, 0], output="aux"), outputs)[:, 0].tolist() == [1, 1]


def test_outputs_that_do_not_fit():
    outputs = {"boxes": np.zeros((2, 4, 3), np.float32)}
    with pytest.raises(DataError, match=r"No output holds class scores.*boxes \[2, 4, 3\]"):
        metric_named("top1").rows(batch(2, labels=[1, 0]), outputs)
    with pytest.raises(ConfigError, match=r"no output 'logit'; its numeric outputs are boxes"):
        metric_named("top1").rows(batch(2, labels=[1, 0], output="logit"), outputs)
    with pytest.raises(DataError, match=r"Output 'boxes' has shape \[2, 4, 3\]; expected class scores"):
        metric_named("top1").rows(batch(2, labels=[1, 0], output="boxes"), outputs)
    with pytest.raises(DataError, match=r"Output 'y' has shape \[7\] for 2 samples; expected one row per sample"):
        metric_named("top1").rows(batch(2, labels=[1, 0], output="y"), {"y": np.zeros(7, np.float32)})


def test_a_single_sample_needs_no_batch_axis():
    assert metric_named("top1").rows(batch(1, labels=[1]), {"y": SCORES[0]}).tolist() == [[1]]


@pytest.mark.parametrize(("metric", "k"), [("top_k", 3), ("top_k", 4), ("top5", 5)])
def test_every_class_among_the_k_best_is_no_measure(metric, k):
    with pytest.raises(DataError, match=f"has 3 classes: the label is always among the {k} highest-scored"):
        metric_named(metric).rows(batch(1, labels=[0], k=k), {"logits": SCORES[:1]})


def test_a_float_model_that_gives_nan_is_no_measure():
    """Otherwise both models miss those samples, and nothing has dropped."""
    with pytest.raises(DataError, match="Output 'logits' of the float model is NaN for sample 's3'"):
        metric_named("top1").rows(batch(4, labels=[1, 1, 2, 1], reference={"logits": SCORES}), {"logits": SCORES})
