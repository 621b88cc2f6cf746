"""What a gate measured: kept apart from the thresholds, so that it can be judged again without inference."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GateResult", "LayerBlame", "Measurement", "Verdict"]

_STATUSES = ("passed", "failed", "error", "not run")


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
        return cls(
            **{
                **document,
                "value": float(document["value"]),
                "reference": None if document.get("reference") is None else float(document["reference"]),
                "value_rows": _rows(document.get("value_rows")),
                "reference_rows": _rows(document.get("reference_rows")),
                "layers": [LayerBlame(**layer) for layer in document.get("layers", ())],
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
        """Read what :meth:`to_dict` wrote."""
        numbers = {key: None if document.get(key) is None else float(document[key]) for key in ("drop", "base")}
        interval = document.get("interval")
        low_high = (float(interval[0]), float(interval[1])) if interval else None
        return cls(**{**document, **numbers, "interval": low_high})


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
        return cls(
            gate=dict(document["gate"]),
            status=document["status"],
            measurement=Measurement.from_dict(measurement) if measurement else None,
            verdict=Verdict.from_dict(verdict) if verdict else None,
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
    return value


def _rows(rows: Any) -> list[list[float]] | None:
    return None if rows is None else [[float(number) for number in row] for row in rows]
