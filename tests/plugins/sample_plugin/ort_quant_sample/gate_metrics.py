"""A gate metric: how sure a classifier is."""

from __future__ import annotations

import numpy as np

from ort_quant_plugin.gates.metrics import SampleMetric


class Margin(SampleMetric):
    """Mean distance between the two largest scores of a sample."""

    name = "margin"
    summary = "mean distance between the two largest scores"
    kind = "own"  # each model has its margin; "pair" would compare two models
    needs_reference = False

    def rows(self, batch, outputs):
        """One number per sample; the gate takes the mean and its confidence interval."""
        (scores,) = outputs.values()
        second, first = np.sort(scores, axis=1)[:, -2:].T
        return (first - second)[:, np.newaxis]
