"""Rank correlation: do scores still come in the same order?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.gates.metrics.base import GateMetric, Measured
from ort_quant_plugin.gates.metrics.distance import paired_rows
from ort_quant_plugin.gates.metrics.outputs import OUTPUT

if TYPE_CHECKING:
    from ort_quant_plugin.gates.evaluation import Evaluation
    from ort_quant_plugin.gates.metrics.base import Array, Rows

__all__ = ["Spearman", "spearman_rows"]


class Spearman(GateMetric):
    """Spearman's rank correlation of the float model's scores and the quantized model's.

    Where a sample has several scores, their order within the sample counts, and the value is the mean over samples.
    Where it has one (a ranker, a regressor), the order of the samples counts; that value has no confidence interval.
    """

    name = "spearman"
    summary = "rank correlation of scores: within each sample, or across samples that have one score"
    equal_value = 1.0
    options = (OUTPUT,)

    def measure(self, evaluation: Evaluation) -> Measured:
        """Correlate the ranks."""
        pairs = [self._scores(*paired_rows(batch, outputs)) for batch, outputs in evaluation.batches()]
        samples = sum(len(one) for one, _ in pairs)
        if all(one.shape[1] == 1 for one, _ in pairs):
            expected, found = (np.concatenate(side).reshape(1, -1) for side in zip(*pairs, strict=True))
            return Measured(float(spearman_rows(expected, found)[0]), samples, details={"ranks": "across samples"})
        rows = np.concatenate([spearman_rows(one, other) for one, other in pairs])[:, np.newaxis]
        return Measured(float(rows.mean()), samples, value_rows=rows, details={"ranks": "within samples"})

    @staticmethod
    def _scores(expected: Array, found: Array) -> tuple[Array, Array]:
        return expected.reshape(len(expected), -1), found.reshape(len(found), -1)


def spearman_rows(one: Array, other: Array) -> Rows:
    """Spearman's ρ of each pair of rows: the Pearson correlation of their ranks, equal values sharing their mean rank.

    Shapes: both (samples, scores), result (samples,) in [−1, 1]; 1 where both rows are constant, 0 where one is, NaN
    where a score is NaN.
    """
    x, y = (np.array([_ranks(row) for row in rows]) for rows in (one, other))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    xx, yy, xy = (x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1)
    norm = np.sqrt(xx * yy)
    rho = np.divide(xy, norm, out=np.where(xx == yy, 1.0, 0.0), where=norm != 0)
    return np.clip(rho, -1, 1)


def _ranks(row: Array) -> Rows:
    if np.isnan(row).any():
        return np.full(row.shape, np.nan)
    _, place, count = np.unique(row, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    means: Rows = (last - (count - 1) / 2)[place]
    return means
