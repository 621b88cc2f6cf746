"""Measure a gate: open what it names, run what is not known yet, let its metric compute."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import ConfigError, DataError, ModelError
from ort_quant_plugin.gates.dataset import Dataset, open_dataset
from ort_quant_plugin.gates.environment import environment
from ort_quant_plugin.gates.evaluation import Evaluation
from ort_quant_plugin.gates.measurement import Measurement
from ort_quant_plugin.gates.metrics import metric_named
from ort_quant_plugin.gates.model_files import ModelFacts, model_facts
from ort_quant_plugin.gates.outputs import OutputCache, row_probe

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.measurement import LayerBlame
    from ort_quant_plugin.gates.metrics import GateMetric, Measured
    from ort_quant_plugin.progress import Progress

__all__ = ["Evaluator"]


class Evaluator:
    """Measures gates; those that share models and data share one inference.

    What ``module:callable`` yields is taken to be the same throughout a run.

    Args:
        cache_bytes: Memory for outputs of models, kept for the next gates.
        progress: Receives one event per batch.
        environment: Describes where is measured; what it returns is stored with every measurement.

    Attributes:
        environment: As given.
        blames: Layers to blame by models and samples: gates that are missed together share them.
    """

    def __init__(
        self,
        cache_bytes: int = 512 * 2**20,
        progress: Progress | None = None,
        environment: Callable[[], dict[str, str]] = environment,
    ) -> None:
        self.environment = environment
        self.blames: dict[object, tuple[list[LayerBlame], str | None]] = {}
        self._cache = OutputCache(cache_bytes, progress)
        self._facts: dict[str, ModelFacts] = {}
        self._datasets: dict[str, Dataset] = {}
        self._objects: dict[tuple[int, str], tuple[Any, Dataset]] = {}

    def measure(
        self,
        gate: Gate,
        *,
        data: Any = None,
        labels: Any = None,
        model: str | os.PathLike[str] | None = None,
        reference: str | os.PathLike[str] | None = None,
    ) -> Measurement:
        """Measure one gate.

        Args:
            gate: What to measure.
            data: Instead of the gate's data: anything ``open_data`` takes.
            labels: Instead of the gate's labels: a path, or what the metric takes in memory.
            model: Instead of the gate's model.
            reference: Instead of the gate's reference.

        Raises:
            ConfigError: The metric or one of its options is unknown, or the gate lacks a model.
            ModelError: A model is missing or cannot be loaded, or the two do not belong together.
            DataError: Data or labels are missing or do not fit, or there are no samples.
        """
        started = time.perf_counter()
        evaluation = self.evaluation(gate, data=data, labels=labels, model=model, reference=reference)
        metric = metric_named(gate.metric)
        measured = metric.measure(evaluation)
        if metric.needs_data and measured.samples == 0:
            raise DataError(
                f"gate {gate.name!r}: the evaluation saw no samples.", hint="Give data that holds at least one sample."
            )
        measurement = _measurement(metric, evaluation, measured)
        measurement.environment = self.environment()
        measurement.seconds = time.perf_counter() - started
        return measurement

    def evaluation(self, gate: Gate, **overrides: Any) -> Evaluation:
        """What :meth:`measure` gives the metric: models, samples, labels and options of a gate.

        Raises:
            ConfigError, ModelError, DataError: As :meth:`measure`.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        metric = metric_named(gate.metric)
        options = metric.parse_options(gate.options, f"gate {gate.name!r}")
        model = self._model(gate, metric, "model", given.get("model", gate.model))
        reference = self._model(gate, metric, "reference", given.get("reference", gate.reference))
        assert model is not None
        if reference is not None:
            _check_difference(gate, metric, model, reference)
        dataset, truth = None, None
        if metric.needs_data:
            _check_inputs(model, reference)
            dataset = self._dataset(given.get("data", gate.data), gate, model)
        if metric.needs_labels:
            assert dataset is not None
            source = given.get("labels", gate.labels)
            if source is None:
                raise DataError(
                    f"gate {gate.name!r}: the metric {metric.name!r} needs labels, and there are none.",
                    hint="Add labels=….",
                )
            truth = metric.read_labels(source, dataset.data)
        return Evaluation(gate, options, model, reference, truth, dataset, self._cache)

    def _model(self, gate: Gate, metric: GateMetric, role: str, path: Any) -> ModelFacts | None:
        if path is None:
            if role == "model" or metric.needs_reference:
                needed = "the quantized model" if role == "model" else "the float model to compare with"
                raise ConfigError(
                    f"gate {gate.name!r}: the metric {metric.name!r} needs {needed}, and there is none.",
                    hint=f"Add {role}=….",
                )
            return None
        if not Path(path).exists():
            raise ModelError(
                f"gate {gate.name!r}: the {role} {str(path)!r} does not exist.", hint="Check the path.", path=str(path)
            )
        known = self._facts.get(str(path))
        if known is None or not known.unchanged:
            known = self._facts[str(path)] = model_facts(path)
        return known

    def _dataset(self, spec: Any, gate: Gate, model: ModelFacts) -> Dataset:
        if spec is None:
            raise DataError(
                f"gate {gate.name!r}: the metric {gate.metric!r} needs data, and there is none.", hint="Add data=…."
            )
        if isinstance(spec, Iterator) or (callable(spec) and not isinstance(spec, np.ndarray)):
            # Its values have no fingerprint, and an iterator runs only once: keep what it was opened as.
            key = id(spec), str(gate.max_samples)
            if key not in self._objects:
                dataset = open_dataset(self._source(spec), gate, model.inputs, row_probe(model.path, gate))
                self._objects[key] = spec, dataset
            return self._objects[key][1]
        dataset = open_dataset(spec, gate, model.inputs, row_probe(model.path, gate))
        return self._datasets.setdefault(dataset.key, dataset)

    def _source(self, spec: Any) -> Any:
        """The batches an iterator gave when another gate opened it."""
        return next((dataset.data for known, dataset in self._objects.values() if known is spec), spec)


def _check_difference(gate: Gate, metric: GateMetric, model: ModelFacts, reference: ModelFacts) -> None:
    """A model compared with itself never fails; its own accuracy may still have limits."""
    from_reference = metric.kind == "own" and gate.max_drop is not None and gate.baseline is None
    if model.sha256 == reference.sha256 and (metric.needs_reference or from_reference):
        raise ConfigError(
            f"gate {gate.name!r}: model {model.path!r} and reference {reference.path!r} are the same model, which "
            "would pass whatever it is.",
            hint="Give the quantized model as model= and the float model as reference=.",
            value=model.path,
        )


def _check_inputs(model: ModelFacts, reference: ModelFacts | None) -> None:
    if reference is None:
        return
    found, expected = ({spec.name for spec in facts.inputs} for facts in (model, reference))
    if found != expected:
        raise ModelError(
            f"{model.path!r} has the inputs {', '.join(sorted(found))}, but {reference.path!r} has "
            f"{', '.join(sorted(expected))}.",
            hint="Compare a model with the float model it was made from.",
            path=model.path,
            expected=sorted(expected),
            value=sorted(found),
        )


def _measurement(metric: GateMetric, evaluation: Evaluation, measured: Measured) -> Measurement:
    models = {"model": evaluation.model, "reference": evaluation.reference}
    return Measurement(
        metric=metric.name,
        unit=metric.unit,
        kind=metric.kind,
        higher_is_better=metric.higher_is_better,
        value=measured.value,
        reference=measured.reference if metric.kind == "own" else metric.equal_value,
        samples=measured.samples,
        value_rows=_listed(measured.value_rows),
        reference_rows=_listed(measured.reference_rows),
        binary=metric.binary,
        details=dict(measured.details),
        models={role: facts.to_dict() for role, facts in models.items() if facts is not None},
        data=_data_facts(evaluation),
        options={name: value for name, value in evaluation.options.items() if value is not None},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _listed(rows: Any) -> list[list[float]] | None:
    return None if rows is None else rows.tolist()


def _data_facts(evaluation: Evaluation) -> dict[str, Any]:
    """The samples and their labels: two measurements can be paired only where both are the same."""
    dataset = evaluation.dataset
    if dataset is None:
        return {}
    sha256 = evaluation.data_sha256
    if evaluation.labels is not None:
        sha256 = hashlib.sha256(f"{sha256} {_labels_text(evaluation.labels)}".encode()).hexdigest()
    facts: dict[str, Any] = {"spec": evaluation.gate.data or "given by the test", "sha256": sha256}
    return facts | ({"notes": dataset.data.notes} if dataset.data.notes else {})


def _labels_text(labels: Sequence[Any]) -> str:
    return json.dumps(list(labels), default=str)
