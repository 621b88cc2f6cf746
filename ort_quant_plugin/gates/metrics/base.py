"""What a gate metric is, for the built-in ones and for plugins.

Most metrics are a function of the *mean* of one row of numbers per sample: top-1 is the mean of hits, SQNR is
10·log10 of the mean signal power over the mean noise power. They are :class:`SampleMetric`: the rows are kept with the
measurement, so confidence intervals need no inference. The rest (mean average precision, the size of a file) derive
from :class:`GateMetric` and compute their value as they like.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ort_quant_plugin.config.parameters import Parameter
from ort_quant_plugin.errors import ConfigError, DataError, PluginError
from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.labels import as_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.gates.evaluation import Evaluation

__all__ = ["Array", "Batch", "GateMetric", "Measured", "Parameter", "Rows", "SampleMetric"]

Array = NDArray[np.generic]
Rows = NDArray[np.float64]

_GATE_KEYS = tuple(item.name for item in fields(Gate))


@dataclass(frozen=True)
class Batch:
    """Some samples of the evaluation, in the order of the data.

    Attributes:
        start: Index of the first sample.
        size: Number of samples.
        names: Where each comes from (file name, ``file.npy[3]``).
        labels: The truth of each, ``None`` for metrics without labels.
        reference: Outputs of the float model by name, ``None`` without one.
        options: Options of the metric, defaults filled in.
    """

    start: int
    size: int
    names: Sequence[str]
    labels: Any = None
    reference: Mapping[str, Array] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Measured:
    """What :meth:`GateMetric.measure` found.

    Attributes:
        value: Of the quantized model.
        samples: Samples it was measured on.
        reference: Of the float model (``kind = "own"``), ``None`` without one.
        value_rows: (samples, k) rows that ``value`` is ``from_mean_rows`` of; ``None`` where it is no such function.
        reference_rows: Likewise of the float model.
        details: What else was found, JSON-ready, to print.
    """

    value: float
    samples: int
    reference: float | None = None
    value_rows: Rows | None = None
    reference_rows: Rows | None = None
    details: dict[str, Any] = field(default_factory=dict)


class GateMetric(ABC):
    """A number a gate can have thresholds for.

    Attributes:
        name: What gates call it; ``[a-z][a-z0-9_-]*``.
        summary: One line for listings.
        unit: ``"share"`` (of samples, 0..1), ``"dB"``, ``"ratio"`` or ``""``.
        kind: ``"own"``: each model has a value of its own (accuracy); ``"pair"``: one value of two models (cosine).
        higher_is_better: Direction.
        binary: Rows are single hits, 0 or 1.
        equal_value: Of two equal models, where that is a finite number (``"pair"`` only).
        needs_data: Whether it runs the models.
        needs_labels: Whether it needs the truth.
        needs_reference: Whether it needs the float model.
        blames_layers: Whether a miss can be the fault of single layers.
        options: What a gate may set for it.
    """

    name: str
    summary: str
    unit: str = ""
    kind: Literal["own", "pair"] = "pair"
    higher_is_better: bool = True
    binary: bool = False
    equal_value: float | None = None
    needs_data: bool = True
    needs_labels: bool = False
    needs_reference: bool = True
    blames_layers: bool = True
    options: tuple[Parameter, ...] = ()

    @abstractmethod
    def measure(self, evaluation: Evaluation) -> Measured:
        """Measure the metric.

        Args:
            evaluation: The models, the data, the labels and the options; ``evaluation.batches()`` runs the models.
        """

    def from_mean_rows(self, mean: Rows, options: Mapping[str, Any]) -> Rows:
        """The value as a function of the mean row.

        Shapes: ``mean`` (…, k), result (…); leading axes are resamples of a bootstrap.
        """
        del options
        return mean[..., 0]

    def read_labels(self, labels: Any, data: CalibrationData) -> Sequence[Any]:
        """The truth of every sample of ``data``, in its order.

        Args:
            labels: A path, or what the caller has in memory. Class indices here; other metrics read other things.
            data: The samples; more labels than samples are cut off only where the gate limits the samples.

        Raises:
            DataError: They cannot be read, or a sample has none.
        """
        return as_labels(labels, data).tolist()

    def parse_options(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Check what a gate sets, and fill in the defaults.

        Raises:
            ConfigError: An option is unknown or has a wrong value.
        """
        known = {parameter.name: parameter for parameter in self.options}
        for name in given:
            if name not in known:
                raise self._unknown_option(name, where)
        return {
            name: parameter.parse(given[name], where) if given.get(name) is not None else parameter.default
            for name, parameter in known.items()
        }

    def _unknown_option(self, name: str, where: str) -> ConfigError:
        known = [parameter.name for parameter in self.options]
        near = difflib.get_close_matches(name, [*known, *_GATE_KEYS], n=1)
        legal = f"The options of {self.name} are: {', '.join(known)}." if known else f"{self.name} has no options."
        return ConfigError(
            f"{where}: the metric {self.name!r} has no option {name!r}.",
            hint=f"Did you mean {near[0]!r}?" if near else legal,
            metric=self.name,
            value=name,
            expected=known,
        )


class SampleMetric(GateMetric):
    """A metric that is a function of the mean of one row of numbers per sample."""

    @abstractmethod
    def rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        """The rows of one batch.

        Args:
            batch: The samples. For ``kind = "pair"`` the float model's outputs are ``batch.reference``.
            outputs: Of the model that is measured, by name; for ``kind = "own"`` each model's in turn.

        Returns:
            (batch.size, k), finite; k is the same for every batch.
        """

    def measure(self, evaluation: Evaluation) -> Measured:
        """Collect the rows of all batches; the value is :meth:`from_mean_rows` of their mean."""
        rows: list[Rows] = []
        reference_rows: list[Rows] = []
        for batch, outputs in evaluation.batches():
            rows.append(self._rows(batch, outputs))
            if self.kind == "own" and batch.reference is not None:
                reference_rows.append(self._rows(replace(batch, reference=None), batch.reference))
        value_rows = _stack(rows)
        found = Measured(self._value(value_rows, evaluation), len(value_rows), value_rows=value_rows)
        if reference_rows:
            found.reference_rows = _stack(reference_rows)
            found.reference = self._value(found.reference_rows, evaluation)
        return found

    def _rows(self, batch: Batch, outputs: Mapping[str, Array]) -> Rows:
        rows = np.asarray(self.rows(batch, outputs), np.float64)
        if rows.ndim != 2 or len(rows) != batch.size:
            raise PluginError(
                f"The gate metric {self.name!r} gave rows of shape {list(rows.shape)} for {batch.size} samples; "
                "expected [samples, k].",
                hint="Report it to the author of the metric.",
                metric=self.name,
                value=rows.shape,
            )
        return rows

    def _value(self, rows: Rows, evaluation: Evaluation) -> float:
        return float(self.from_mean_rows(rows.mean(axis=0), evaluation.options))


def _stack(rows: list[Rows]) -> Rows:
    if not rows:
        raise DataError("The evaluation saw no samples.", hint="Give data that holds at least one sample.")
    return np.concatenate(rows)
