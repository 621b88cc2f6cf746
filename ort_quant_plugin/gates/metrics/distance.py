"""How far the outputs of two models are apart.

The formulas are those of :mod:`ort_quant_plugin.metrics`, over all elements of all samples. Each is a function of mean
sums per sample, written here for whole arrays of means, so that a bootstrap is one matrix product. One thing differs:
a NaN in both models is no equal value here, for two broken models must not pass a gate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.gates.metrics.base import GateMetric, Measured, SampleMetric
from ort_quant_plugin.gates.metrics.outputs import OUTPUT, output_name, per_sample
from ort_quant_plugin.metrics import ErrorStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ort_quant_plugin.gates.evaluation import Evaluation
    from ort_quant_plugin.gates.metrics.base import Array, Batch, Rows

__all__ = ["Cosine", "MaxError", "MeanAbsoluteError", "MeanSquaredError", "Sqnr", "paired_rows"]


def _is_float(rows: Array) -> bool:
    return rows.dtype.kind == "f"


def paired_rows(batch: Batch, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
    """One output of both models, with the samples along the first axis: (float model's, measured model's).

    Raises:
        ConfigError, DataError: There is no output to compare, or several.
    """
    assert batch.reference is not None
    name = output_name(outputs, batch, _is_float, "floating-point numbers, one row per sample")
    return tuple(per_sample(found[name], batch.size, name) for found in (batch.reference, outputs))  # type: ignore[return-value]


def _stats(batch: Batch, outputs: Mapping[str, Array]) -> Iterator[ErrorStats]:
    for expected, found in zip(*paired_rows(batch, outputs), strict=True):
        stats = ErrorStats()
        stats.update(expected, found)
        if stats.both_nan:
            stats.nonfinite += stats.both_nan
            stats.max_abs_error = math.inf
        yield stats


class _SumMetric(SampleMetric):
    """A function of mean sums; ``columns`` names the fields of :class:`ErrorStats` it needs."""

    options = (OUTPUT,)
    columns: tuple[str, ...]

    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """The sums of each sample."""
        return np.array([[getattr(stats, name) for name in self.columns] for stats in _stats(batch, outputs)])


class Cosine(_SumMetric):
    """Cosine similarity Σxy / √(Σx²·Σy²); NaN when a value is NaN, or infinite on one side only."""

    name = "cosine"
    summary = "cosine similarity with the float model's output"
    equal_value = 1.0
    columns = ("sum_xx", "sum_yy", "sum_xy", "sum_dd", "nonfinite")

    def from_mean_rows(self, mean: Rows, options: Mapping[str, Any]) -> Rows:
        """1 when equal (two zero tensors too), 0 when only one is all zero."""
        del options
        xx, yy, xy, dd, bad = np.moveaxis(mean, -1, 0)
        norm = np.sqrt(xx) * np.sqrt(yy)
        value = np.clip(np.divide(xy, norm, out=np.zeros_like(norm), where=norm > 0), -1, 1)
        return np.where(bad > 0, np.nan, np.where(dd == 0, 1.0, value))


class Sqnr(_SumMetric):
    """Signal to quantization noise ratio 10·log10(Σx² / Σ(x−y)²); +∞ when equal."""

    name = "sqnr_db"
    summary = "signal to quantization noise ratio of the output, dB"
    unit = "dB"
    columns = ("sum_xx", "sum_dd", "nonfinite")

    def from_mean_rows(self, mean: Rows, options: Mapping[str, Any]) -> Rows:
        """−∞ when only the reference is all zero, or a value is NaN, or infinite on one side only."""
        del options
        xx, dd, bad = np.moveaxis(mean, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = 10 * np.log10(xx / dd)
        return np.where(bad > 0, -np.inf, np.where(dd == 0, np.inf, value))


class _MeanError(_SumMetric):
    higher_is_better = False
    equal_value = 0.0

    def from_mean_rows(self, mean: Rows, options: Mapping[str, Any]) -> Rows:
        """Infinite when a value is NaN, or infinite on one side only."""
        del options
        count, total, bad = np.moveaxis(mean, -1, 0)
        return np.where(bad > 0, np.inf, total / count)


class MeanSquaredError(_MeanError):
    """Mean squared error Σ(x−y)²/n."""

    name = "mse"
    summary = "mean squared error of the output"
    columns = ("count", "sum_dd", "nonfinite")


class MeanAbsoluteError(_MeanError):
    """Mean absolute error Σ|x−y|/n."""

    name = "mae"
    summary = "mean absolute error of the output"
    columns = ("count", "sum_ad", "nonfinite")


class MaxError(GateMetric):
    """Largest absolute difference max|x−y| over all samples: no mean, so it has no confidence interval."""

    name = "max_error"
    summary = "largest absolute error of the output"
    higher_is_better = False
    equal_value = 0.0
    options = (OUTPUT,)

    def measure(self, evaluation: Evaluation) -> Measured:
        """Find the sample with the largest error; infinite when a value is NaN, or infinite on one side only."""
        worst, where, samples = -math.inf, "", 0
        for batch, outputs in evaluation.batches():
            for name, stats in zip(batch.names, _stats(batch, outputs), strict=True):
                if stats.max_abs_error > worst:
                    worst, where = stats.max_abs_error, name
            samples += batch.size
        return Measured(worst, samples, details={"worst_sample": where})
