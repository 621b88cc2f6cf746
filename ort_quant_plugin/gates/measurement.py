"""What a gate measured: kept apart from the thresholds, so that it can be judged again without inference."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GateResult", "LayerBlame", "Measurement", "Verdict", "is_lost"]

_STATUSES = ("passed", "failed", "error", "not run")
_KINDS = ("own", "pair")
_NO_VALUE = type(None)
_NUMBER = (int, float)
_MEASUREMENT = {
    "metric": str, "unit": str, "kind": str, "higher_is_better": bool, "samples": int, "binary": bool, "layers": list,
    "layers_note": (str, _NO_VALUE), "details": dict, "models": dict, "data": dict, "options": dict,
    "environment": dict, "created": str, "seconds": _NUMBER,
}  # fmt: skip
_VERDICT = {
    "passed": bool, "reasons": list, "base_name": str, "interval": (list, _NO_VALUE), "interval_of": str,
    "within_chance": bool, "baseline_written": bool, "notes": list,
}  # fmt: skip
_RESULT = {
    "gate": dict, "measurement": (dict, _NO_VALUE), "verdict": (dict, _NO_VALUE), "error": (str, _NO_VALUE),
    "rerun": str, "where": str,
}  # fmt: skip
_GATE = {
    "name": str, "metric": str, "max_drop": _NUMBER, "min_value": _NUMBER, "max_value": _NUMBER,
    "significance": _NUMBER, "options": dict, "preprocess": dict,
}  # fmt: skip
_NEEDED = ("metric", "unit", "kind", "higher_is_better", "passed", "gate", "name", "op_type")


@dataclass(frozen=True)
class LayerBlame:
    """A layer and how much of the noise it makes itself.

    Attributes:
        name: Node name.
        op_type: ONNX operator.
        sqnr_db: Of its output against the float model; ``None`` when infinite or undefined.
        added_noise: Noise-to-signal power of its output when its inputs are the float model's, in [0, 1]: what the
            layer does by itself. 1 is a layer that gets clean inputs and gives nothing usable.
    """

    name: str
    op_type: str
    sqnr_db: float | None
    added_noise: float

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LayerBlame:
        """Read a layer of :meth:`Measurement.to_dict`; raises as :meth:`Measurement.from_dict`."""
        _check_types(document, {"name": str, "op_type": str})
        return cls(
            **{**document, "sqnr_db": _number(document["sqnr_db"]), "added_noise": float(document["added_noise"])}
        )


@dataclass
class Measurement:
    """One metric, measured.

    Attributes:
        metric: Name of the metric.
        unit: ``"share"`` (of samples, 0..1), ``"dB"``, ``"ratio"`` or ``""``.
        kind: ``"own"``: each model has a value of its own (accuracy); ``"pair"``: one value of two models (cosine).
        higher_is_better: Direction.
        value: Of the quantized model; NaN and infinities are kept (as strings in JSON).
        reference: Of the float model; of equal models for ``"pair"``; ``None`` where neither exists.
        samples: Samples measured.
        value_rows: (samples, k): per-sample sums the value is a function of; ``None`` where there are none.
        reference_rows: Likewise of the float model (``"own"`` only).
        binary: Rows are single hits, 0 or 1.
        layers: The worst layers, worst first; empty unless they were measured.
        layers_note: Where the layers were measured, or why there are none.
        details: What else the metric found, to print (``first_different_layer`` …).
        models: ``{"model": {"path", "sha256", "bytes"}, "reference": {…}}``.
        data: ``{"spec", "sha256"}``: what was fed, to tell whether two measurements are of the same samples.
        options: The metric's options.
        environment: Where it was measured (:func:`~ort_quant_plugin.gates.environment.environment`).
        created: ISO 8601 time, UTC.
        seconds: Wall time.
    """

    metric: str
    unit: str
    kind: Literal["own", "pair"]
    higher_is_better: bool
    value: float
    reference: float | None = None
    samples: int = 0
    value_rows: list[list[float]] | None = None
    reference_rows: list[list[float]] | None = None
    binary: bool = False
    layers: list[LayerBlame] = field(default_factory=list)
    layers_note: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0

    @property
    def is_lost(self) -> bool:
        """Whether nothing could be worse than the value."""
        return is_lost(self.value, self.higher_is_better)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; see :meth:`from_dict`."""
        document: dict[str, Any] = _to_json(asdict(self))
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Measurement:
        """Read what :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: The document is no measurement; the callers name the file.
        """
        _check_types(document, _MEASUREMENT)
        if document["kind"] not in _KINDS:
            raise ValueError(f"kind is {document['kind']!r}")
        for role, facts in document.get("models", {}).items():
            _check_types({role: facts}, {role: dict})
        return cls(
            **{
                **document,
                "value": float(document["value"]),
                "reference": _number(document.get("reference")),
                "value_rows": _rows(document.get("value_rows")),
                "reference_rows": _rows(document.get("reference_rows")),
                "layers": [LayerBlame.from_dict(layer) for layer in document.get("layers", ())],
                "environment": {name: str(value) for name, value in document.get("environment", {}).items()},
                "seconds": float(document.get("seconds", 0.0)),
            }
        )


@dataclass
class Verdict:
    """A measurement held against thresholds.

    Attributes:
        passed: Whether every threshold holds.
        reasons: Why not, one sentence each; empty when passed.
        base: Value that ``drop`` is counted from; ``None`` where there is none.
        base_name: ``"float"``, ``"baseline"`` or ``"equal models"``.
        drop: How much worse than the base, in the metric's unit; negative when better.
        budget: The ``max_drop`` that was allowed, or ``None``.
        interval: Two-sided 95 % confidence interval of the drop (of the value where there is no drop).
        interval_of: ``"drop"`` or ``"value"``.
        p_value: McNemar's exact test (two-sided) of paired hits, ``None`` for other metrics.
        within_chance: A threshold is missed, but no further than chance can explain (``significance``).
        baseline_written: It failed because a baseline was written; :attr:`reasons` tells what else is missed.
        notes: What the reader should know: another environment, not significant, no interval.
    """

    passed: bool
    reasons: list[str] = field(default_factory=list)
    base: float | None = None
    base_name: str = ""
    drop: float | None = None
    budget: float | None = None
    interval: tuple[float, float] | None = None
    interval_of: str = ""
    p_value: float | None = None
    within_chance: bool = False
    baseline_written: bool = False
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        document: dict[str, Any] = _to_json(asdict(self))
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Verdict:
        """Read what :meth:`to_dict` wrote; raises as :meth:`Measurement.from_dict`."""
        _check_types(document, _VERDICT)
        numbers = {key: _number(document.get(key)) for key in ("drop", "base", "budget", "p_value")}
        interval = document.get("interval")
        if interval is not None:
            low, high = interval
            interval = float(low), float(high)
        return cls(**{**document, **numbers, "interval": interval})


@dataclass
class GateResult:
    """One gate of a run.

    Attributes:
        gate: The gate as :meth:`Gate.to_dict <ort_quant_plugin.gates.gate.Gate.to_dict>` writes it.
        status: ``"passed"``, ``"failed"``, ``"error"`` (it could not be measured) or ``"not run"``.
        measurement: What was measured, ``None`` when there is none.
        verdict: Its judgement, likewise.
        error: Message and hint of what went wrong.
        rerun: The command that runs this gate alone.
        where: File that asks for the gate, relative to the project, with its line where that is known:
            ``tests/test_gates.py:12``.
    """

    gate: dict[str, Any]
    status: Literal["passed", "failed", "error", "not run"]
    measurement: Measurement | None = None
    verdict: Verdict | None = None
    error: str | None = None
    rerun: str = ""
    where: str = ""

    @property
    def name(self) -> str:
        """The gate's name."""
        return str(self.gate["name"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "gate": self.gate,
            "status": self.status,
            "measurement": self.measurement.to_dict() if self.measurement else None,
            "verdict": self.verdict.to_dict() if self.verdict else None,
            "error": self.error,
            "rerun": self.rerun,
            "where": self.where,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GateResult:
        """Read what :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: The document is no result; the callers name the file.
        """
        measurement, verdict = document.get("measurement"), document.get("verdict")
        if document["status"] not in _STATUSES:
            raise ValueError(f"status is {document['status']!r}")
        _check_types(document, _RESULT)
        _check_types(document["gate"], _GATE)
        return cls(
            gate=dict(document["gate"]),
            status=document["status"],
            measurement=None if measurement is None else Measurement.from_dict(measurement),
            verdict=None if verdict is None else Verdict.from_dict(verdict),
            error=document.get("error"),
            rerun=document.get("rerun", ""),
            where=document.get("where", ""),
        )


def _to_json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become strings ``float`` reads. Numpy values become Python's."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def is_lost(value: float, higher_is_better: bool) -> bool:
    """Whether a value is not a number or the worst infinity: nothing could be worse."""
    return math.isnan(value) or value == (-math.inf if higher_is_better else math.inf)


def _check_types(document: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise a KeyError or a TypeError unless a document has what it needs, of the types it should be."""
    if not hasattr(document, "items"):
        raise TypeError(f"{document!r} holds no settings by name")
    for name, expected in types.items():
        if name not in document:
            if name in _NEEDED:
                raise KeyError(name)
            continue
        found = document[name]
        if not isinstance(found, expected) or (isinstance(found, bool) and expected is not bool):
            raise TypeError(f"{name} is {found!r}")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _rows(rows: Any) -> list[list[float]] | None:
    if rows is None:
        return None
    read = [[float(number) for number in row] for row in rows]
    if len({len(row) for row in read}) > 1:
        raise ValueError("its rows have different lengths")
    return read
