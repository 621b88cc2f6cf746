"""What the fixtures ``quant_gate``, ``quant_data`` and ``quant_session`` give to tests."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from ort_quant_plugin.errors import ArgumentTypeError, ConfigError, OrtQuantError
from ort_quant_plugin.gates.measurement import GateResult, Measurement
from ort_quant_plugin.gates.pytest_marker import GATE, MARKER, baseline_folder, capped
from ort_quant_plugin.gates.pytest_session import RESULTS, SESSION, place, rerun_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import onnxruntime

    from ort_quant_plugin.gates.baselines import Baselines
    from ort_quant_plugin.gates.gate import Gate

__all__ = ["QuantData", "QuantGate", "gate_of", "make_session"]


class QuantGate:
    """Measures and judges the gate of a test.

    Attributes:
        gate: What the markers say, completed by the ini file and the command line.
    """

    def __init__(self, item: pytest.Item, data: Any) -> None:
        self.gate = gate_of(item)
        self._item = item
        self._data = data
        self._session = item.config.stash[SESSION]

    def measure(
        self, *, model: Any = None, reference: Any = None, data: Any = None, labels: Any = None, **options: Any
    ) -> Measurement:
        """Measure without judging: what the gate names, except where arguments say otherwise.

        Args:
            model: The quantized model.
            reference: The float model.
            data: Anything ``open_data`` takes; default: what the fixture ``quant_data`` returns.
            labels: A file, or an array with one entry per sample.
            options: Options of the metric, and fields of the gate (``batch_size``, ``threads`` …).

        Raises:
            OrtQuantError: It cannot be measured.
        """
        gate, overrides = self._planned(options, model=model, reference=reference, data=data, labels=labels)
        return self._session.evaluator.measure(gate, **overrides)

    def judge(self, measurement: Measurement) -> GateResult:
        """Judge a measurement, whoever made it; the test fails here if a threshold is missed.

        The metric may be one that only the test knows: fill a
        :class:`~ort_quant_plugin.gates.measurement.Measurement` and name the metric in the marker.
        """
        return self._end(self._judged(self._numbered(self.gate), measurement))

    def check(
        self,
        *,
        measurement: Measurement | None = None,
        model: Any = None,
        reference: Any = None,
        data: Any = None,
        labels: Any = None,
        **options: Any,
    ) -> GateResult:
        """Measure and judge; the test fails here if a threshold is missed or the gate cannot be measured.

        Args:
            measurement: A measurement to be judged instead (:meth:`judge`); nothing else may be given with it.
            model: See :meth:`measure`.
            reference: See :meth:`measure`.
            data: See :meth:`measure`.
            labels: See :meth:`measure`.
            options: See :meth:`measure`.

        Returns:
            The result of a gate that holds.
        """
        given = {"model": model, "reference": reference, "data": data, "labels": labels}
        if measurement is not None:
            surplus = [name for name, value in {**given, **options}.items() if value is not None]
            if surplus:
                raise ArgumentTypeError(
                    f"quant_gate.check() got a measurement and {surplus[0]}.",
                    hint="Give a measurement that is there already, or what to measure.",
                )
            return self.judge(measurement)
        return self._end(self._checked(options, given))

    def _checked(self, options: Mapping[str, Any], given: Mapping[str, Any]) -> GateResult:
        from ort_quant_plugin.gates.engine import run_gate

        try:
            gate, overrides = self._planned(options, **given)
        except OrtQuantError as error:
            return GateResult(self.gate.to_dict(), "error", error=str(error))
        return run_gate(gate, self._session.evaluator, self._baselines(), **overrides)

    def _judged(self, gate: Gate, measurement: Measurement) -> GateResult:
        from ort_quant_plugin.gates.baselines import settle

        if measurement.metric != gate.metric:
            message = f"The measurement is of {measurement.metric!r}, the gate is for {gate.metric!r}."
            return GateResult(gate.to_dict(), "error", error=message)
        unknown = [name for name in gate.options if name not in measurement.options]
        if unknown:
            message = f"{MARKER} sets {unknown[0]!r}, which is no setting of a gate and no option of the measurement."
            return GateResult(gate.to_dict(), "error", error=message)
        try:
            measurement = Measurement.from_dict(measurement.to_dict())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return GateResult(gate.to_dict(), "error", error=f"The measurement is damaged ({error}).")
        try:
            measurement = self._completed(measurement)
            verdict = settle(gate, measurement, self._baselines())
        except OrtQuantError as error:
            return GateResult(gate.to_dict(), "error", measurement, error=str(error))
        return GateResult(gate.to_dict(), "passed" if verdict.passed else "failed", measurement, verdict)

    def _planned(self, options: Mapping[str, Any], **given: Any) -> tuple[Gate, dict[str, Any]]:
        """The gate with what arguments change of it, and the objects that no gate can name.

        Raises:
            ConfigError: An argument has the wrong type or range.
        """
        if given["data"] is None and not isinstance(self._data, QuantData):
            given["data"] = self._data  # somebody has overridden the fixture
        named = {name: value for name, value in given.items() if isinstance(value, (str, os.PathLike))}
        objects = {name: value for name, value in given.items() if name not in named and value is not None}
        gate = self.gate
        if options or named:
            from ort_quant_plugin.gates.gate import Gate

            settings = {**gate.to_dict(), **gate.options, **options, **named}
            settings.pop("options", None)
            gate = Gate.from_mapping(settings, where=self._item.nodeid, base=self._item.config.rootpath)
        return self._numbered(capped(gate, self._session.options)), objects

    def _completed(self, measurement: Measurement) -> Measurement:
        """A baseline says when and where it was measured; finding that out takes a moment."""
        if self.gate.baseline is None or measurement.environment:
            return measurement
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return replace(measurement, environment=self._session.environment(), created=measurement.created or now)

    def _numbered(self, gate: Gate) -> Gate:
        """A test may check several models: from the second on they have names and baselines of their own."""
        before = len(self._item.stash[RESULTS])
        if not before:
            return gate
        suffix = f"[{before + 1}]"
        return replace(gate, name=gate.name + suffix, baseline=gate.baseline and gate.baseline + suffix)

    def _baselines(self) -> Baselines:
        from ort_quant_plugin.gates.baselines import Baselines

        options = self._session.options
        folder = baseline_folder(self._item, options)
        return Baselines(folder, update=options.update_baselines, partial=options.max_samples is not None)

    def _end(self, result: GateResult) -> GateResult:
        result.rerun = rerun_command(self._item.config, self._item.nodeid)
        result.where = place(self._item)
        self._item.stash[RESULTS].append(result)
        self._item.user_properties += _properties(result)
        if result.status != "passed":
            from ort_quant_plugin.gates.render.text import failure_text

            text = failure_text(result, report=self._session.saved_report)
            pytest.fail(text, pytrace=False)
        return result


class QuantData:
    """The evaluation data of a gate: iterate over it for feeds, input name to array.

    Attributes:
        spec: What the marker or the ini file names, anything ``--data`` takes; ``None`` where neither does.
        labels: The file of labels, likewise.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.spec = gate.data
        self.labels = gate.labels

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        from ort_quant_plugin.gates.dataset import open_dataset
        from ort_quant_plugin.gates.outputs import row_probe
        from ort_quant_plugin.model import input_specs, read_model

        gate = self._gate
        model = gate.reference or gate.model
        if gate.data is None or model is None:
            missing = "data" if gate.data is None else "model"
            raise ConfigError(
                f"gate {gate.name!r} names no {missing}, so quant_data is empty.",
                hint=f"Add {missing}= to the marker, or override the fixture quant_data.",
            )
        dataset = open_dataset(gate.data, gate, input_specs(read_model(model)), row_probe(model, gate))
        return (feed for _, feed in dataset.feeds())


def gate_of(item: pytest.Item) -> Gate:
    """The gate of the test that requests a fixture."""
    gate = item.stash.get(GATE, None)
    if gate is None:
        pytest.fail(
            f"{item.nodeid} requests a fixture of accuracy gates, but has no marker that says what to judge: add "
            f"@pytest.mark.{MARKER}(metric=…, max_drop=…).",
            pytrace=False,
        )
    return gate


def make_session(
    model: str | os.PathLike[str], *, root: Path, threads: int = 1, op_libraries: Sequence[str] = ()
) -> onnxruntime.InferenceSession:
    """A session of a model with this package's operators, on the CPU provider.

    Args:
        model: Path, relative to ``root``; untouched deploy models run as well.
        root: Folder that relative paths start from.
        threads: Intra-op threads.
        op_libraries: Libraries of further custom operators.

    Raises:
        ModelError, OpLibraryError: The model or a library cannot be loaded.
    """
    from ort_quant_plugin.comparison import open_model

    return open_model(root / model, op_libraries, threads=threads)


def _properties(result: GateResult) -> list[tuple[str, object]]:
    """For JUnit's XML and everybody else who reads pytest's test reports."""
    measurement, verdict = result.measurement, result.verdict
    found: dict[str, object] = {"metric": result.gate["metric"]}
    if measurement is not None:
        found |= {"float": measurement.reference, "quant": measurement.value, "samples": measurement.samples}
    if verdict is not None:
        found |= {"drop": verdict.drop, "budget": verdict.budget}
    found["verdict"] = result.status
    return [(f"quant_gate.{name}", str(value)) for name, value in found.items() if value is not None]
