"""How sure a measured value and its drop are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.statistics import mcnemar, paired_drop_interval, percentiles, resample, wilson

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ort_quant_plugin.gates.measurement import Measurement
    from ort_quant_plugin.gates.statistics import Interval

__all__ = ["Base", "Evidence", "drop_from"]

_SAME = 1e-6
"""Relative: the value is computed from the same rows, in another order of additions."""


@dataclass(frozen=True)
class Base:
    """What a drop is counted from.

    Attributes:
        value: Its value.
        name: What it is.
        rows: (n, k) of the very samples that the measurement has; ``None`` counts the value as exact.
    """

    value: float
    name: Literal["float", "baseline", "equal models"]
    rows: list[list[float]] | None = None


class Evidence:
    """Confidence intervals of one measurement.

    Args:
        measurement: What was measured.
        base: What its drop is counted from, if anything.
    """

    def __init__(self, measurement: Measurement, base: Base | None) -> None:
        self._measurement = measurement
        self._base = base

    @cached_property
    def missing(self) -> str | None:
        """Why there is no interval, or ``None``."""
        rows = self._measurement.value_rows
        if not rows:
            return f"{self._measurement.metric} has no value per sample"
        if len(rows) < 2:
            return "one sample tells nothing about the spread"
        if not np.isfinite(self._rows).all():
            return "some samples have no finite value"
        return self._function if isinstance(self._function, str) else None

    @property
    def paired(self) -> bool:
        """Whether the base has been measured on the same samples."""
        return self.missing is None and self._base_rows is not None

    @property
    def p_value(self) -> float | None:
        """McNemar's test of paired hits; ``None`` for other metrics."""
        if self._base_rows is None or not self._measurement.binary or self.missing:
            return None
        return mcnemar(self._base_rows, self._rows)

    def of_value(self, level: float) -> Interval | None:
        """Two-sided confidence interval of the value."""
        if self.missing:
            return None
        if self._measurement.binary:
            return wilson(int(np.count_nonzero(self._rows)), len(self._rows), level)
        return _defined(percentiles(self._value_draws, level))

    def of_drop(self, level: float) -> Interval | None:
        """Two-sided confidence interval of the drop; ``None`` too where there is no base."""
        if self.missing or self._base is None:
            return None
        higher = self._measurement.higher_is_better
        if self._base_rows is None:
            ends = self.of_value(level)
            return None if ends is None else _sorted(*(drop_from(self._base.value, end, higher) for end in ends))
        if self._measurement.binary:
            low, high = paired_drop_interval(self._base_rows, self._rows, level)
        else:
            low, high = percentiles(self._drop_draws, level)
        return _defined((low, high) if higher else (-high, -low))

    @cached_property
    def _value_draws(self) -> NDArray[np.float64]:
        return resample(self._mean_function, self._rows)

    @cached_property
    def _drop_draws(self) -> NDArray[np.float64]:
        return resample(self._mean_function, self._rows, self._base_rows)

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        return np.asarray(self._measurement.value_rows, np.float64)

    @cached_property
    def _base_rows(self) -> NDArray[np.float64] | None:
        if self._base is None or not self._base.rows:
            return None
        rows = np.asarray(self._base.rows, np.float64)
        return rows if rows.shape == self._rows.shape and np.isfinite(rows).all() else None

    @cached_property
    def _function(self) -> Callable[[NDArray[np.float64]], Any] | str:
        """What makes the value of mean rows, or why that is not known."""
        from ort_quant_plugin.gates.metrics import metric_named

        measurement = self._measurement
        function: Callable[[NDArray[np.float64]], Any] = _only_column
        try:
            metric = metric_named(measurement.metric)
        except ConfigError:
            if self._rows.shape[1] != 1:
                return f"the metric {measurement.metric!r} is not installed here"
        else:
            of_means = getattr(metric, "from_mean_rows", None)
            if of_means is not None:

                def function(mean: NDArray[np.float64]) -> Any:
                    return of_means(mean, measurement.options)

        try:
            with np.errstate(all="ignore"):
                found = float(np.asarray(function(self._rows.mean(axis=0, keepdims=True)))[0])
        except (ValueError, IndexError, TypeError):
            return f"the samples are not what the metric {measurement.metric!r} that is installed here makes"
        if not np.isclose(found, measurement.value, rtol=_SAME, atol=_SAME, equal_nan=True):
            return f"the samples make {found:.6g}, not the value {measurement.value:.6g}"
        return function

    def _mean_function(self, mean: NDArray[np.float64]) -> Any:
        assert not isinstance(self._function, str)
        return self._function(mean)


def drop_from(base: float, value: float, higher_is_better: bool) -> float:
    """How much worse ``value`` is than ``base``; 0 where both are the same infinity, negative when better."""
    if base == value:
        return 0.0
    return base - value if higher_is_better else value - base


def _only_column(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    return mean[:, 0]


def _sorted(one: float, other: float) -> Interval:
    return (one, other) if one <= other else (other, one)


def _defined(interval: Interval) -> Interval | None:
    return None if np.isnan(interval).any() else interval
