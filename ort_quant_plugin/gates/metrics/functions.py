"""Plugins' simple metrics, functions of two arrays, as gate metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.gates.metrics.base import SampleMetric
from ort_quant_plugin.gates.metrics.distance import paired_rows
from ort_quant_plugin.gates.metrics.outputs import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ort_quant_plugin.gates.metrics.base import Array, Batch, Rows

__all__ = ["FunctionMetric"]


class FunctionMetric(SampleMetric):
    """The mean over samples of a function of (float output, quantized output), each with a batch axis of 1.

    Args:
        name: The name it was registered under.
        function: May have the attributes ``higher_is_better`` (default: true), ``equal_value`` and ``unit``.
    """

    options = (OUTPUT,)

    def __init__(self, name: str, function: Callable[[Array, Array], float]) -> None:
        lines = (function.__doc__ or "").strip().splitlines()
        self.name = name
        self.summary = lines[0].rstrip(".") if lines else "mean over samples of a plugin's function"
        self.unit = getattr(function, "unit", "")
        self.higher_is_better = getattr(function, "higher_is_better", True)
        self.equal_value = getattr(function, "equal_value", None)
        self._function = function

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """The function of each sample."""
        expected, found = paired_rows(batch, outputs)
        pairs = ((expected[i : i + 1], found[i : i + 1]) for i in range(batch.size))
        return np.array([[float(self._function(one, other))] for one, other in pairs])
