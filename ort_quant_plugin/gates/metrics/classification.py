"""Classifiers: accuracy against labels, agreement of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ort_quant_plugin.errors import DataError
from ort_quant_plugin.gates.metrics.base import Parameter, SampleMetric
from ort_quant_plugin.gates.metrics.outputs import OUTPUT, check_reference, class_scores, per_sample
from ort_quant_plugin.metrics import top_k_hits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ort_quant_plugin.gates.metrics.base import Array, Batch, Rows

__all__ = ["Agreement", "TopK"]

_K = Parameter("k", "int", 3, "at least 1", "How many of the highest-scored classes count.", lambda value: value >= 1)


class TopK(SampleMetric):
    """Top-k accuracy: the share of samples whose label is among the k highest-scored classes.

    Ties: the lower class first. A sample with a NaN score is a miss, and an error in the float model.

    Args:
        name: Its name.
        k: Number of classes that count; ``None``: the option ``k`` says it.
    """

    unit = "share"
    kind: Literal["own", "pair"] = "own"
    binary = True
    needs_labels = True
    needs_reference = False

    def __init__(self, name: str, k: int | None) -> None:
        self.name = name
        self.summary = f"top-{k or 'k'} accuracy against class labels"
        self.options = (OUTPUT,) if k is not None else (_K, OUTPUT)
        self._k = k

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """One hit per sample."""
        name, scores = class_scores(outputs, batch)
        labels = np.asarray(batch.labels)
        classes = scores.shape[1]
        if labels.min() < 0 or labels.max() >= classes:
            wrong = int(labels.min() if labels.min() < 0 else labels.max())
            raise DataError(
                f"A label is {wrong}, but output {name!r} has {classes} classes (0 to {classes - 1}).",
                hint="Use the class numbering the model was trained with.",
                value=wrong,
                expected=classes,
            )
        k = self._k if self._k is not None else batch.options["k"]
        if k >= classes:
            raise DataError(
                f"Output {name!r} has {classes} classes: the label is always among the {k} highest-scored ones.",
                hint=f"Use metric='top1', or 'top_k' with k below {classes}.",
                value=k,
                expected=classes,
            )
        check_reference(batch, name)
        return top_k_hits(scores, labels, k)[:, np.newaxis].astype(np.float64)


class Agreement(SampleMetric):
    """Share of samples that both models put into the same class, whatever the truth is.

    Ties: the lowest class. A sample with a NaN score on either side does not agree.
    """

    name = "agreement"
    summary = "share of samples with the same top-1 class as the float model"
    unit = "share"
    binary = True
    equal_value = 1.0
    options = (OUTPUT,)

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """One agreement per sample."""
        assert batch.reference is not None
        name, scores = class_scores(outputs, batch)
        expected = per_sample(batch.reference[name], batch.size, name)
        valid = ~(np.isnan(scores).any(axis=1) | np.isnan(expected).any(axis=1))
        same = (np.argmax(scores, axis=1) == np.argmax(expected, axis=1)) & valid
        return same[:, np.newaxis].astype(np.float64)
