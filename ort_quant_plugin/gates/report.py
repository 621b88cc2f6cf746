"""What a run of gates found: kept as JSON, so that it can be shown and judged again without inference."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ort_quant_plugin.errors import ConfigError, OrtQuantError
from ort_quant_plugin.files import write_text
from ort_quant_plugin.gates.documents import broken_document, read_document, write_document
from ort_quant_plugin.gates.gate import Gate, without_folders
from ort_quant_plugin.gates.judge import judge
from ort_quant_plugin.gates.measurement import GateResult

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.gates.baselines import Baselines
    from ort_quant_plugin.gates.measurement import Measurement, Verdict

    Format = Literal["json", "markdown", "html"]

__all__ = ["SCHEMA", "GateReport", "read_report", "recheck", "report_format", "write_report"]

_MEASURED = ("metric", "model", "reference", "data", "labels", "preprocess", "max_samples")  # of a gate: what is judged
_FILES = ("model", "reference", "data", "labels")

SCHEMA = "ort-quant/gate-report/1"
"""Form of a report file."""

_WHAT = "Gate report"
_HINT = "Reports are written by 'ort-quant gate run --report FILE.json' and 'pytest --quant-report FILE.json'."
_FORMATS: dict[str, Format] = {".json": "json", ".md": "markdown", ".html": "html"}
_SEVERITY = ("error", "failed", "not run", "passed")


@dataclass
class GateReport:
    """All gates of one run.

    Attributes:
        results: In the order of the run.
        environment: Where it ran (:func:`~ort_quant_plugin.gates.environment.environment`).
        created: ISO 8601 time, UTC.
        seconds: Wall time.
    """

    results: list[GateResult]
    environment: dict[str, str] = field(default_factory=dict)
    created: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> list[GateResult]:
        """Gates that are missed or could not be measured."""
        return [result for result in self.results if result.status in {"failed", "error"}]

    @property
    def not_run(self) -> list[GateResult]:
        """Gates that nothing was measured for."""
        return [result for result in self.results if result.status == "not run"]

    @property
    def passed(self) -> list[GateResult]:
        """Gates that hold."""
        return [result for result in self.results if result.status == "passed"]

    @property
    def worst_first(self) -> list[GateResult]:
        """Errors, missed gates, gates that did not run, passed ones; by the share of the budget that is used up."""
        return sorted(self.results, key=lambda result: (_SEVERITY.index(result.status), -_used(result)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; the same as in a report file."""
        return {
            "schema": SCHEMA,
            "created": self.created,
            "seconds": round(self.seconds, 3),
            "passed": len(self.passed),
            "failed": len(self.failed),
            "not_run": len(self.not_run),
            "environment": self.environment,
            "results": [result.to_dict() for result in self.results],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GateReport:
        """Read what :meth:`to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: The document is no report; :func:`read_report` names the file.
        """
        return cls(
            results=[GateResult.from_dict(result) for result in document["results"]],
            environment=dict(document["environment"]),
            created=str(document["created"]),
            seconds=float(document["seconds"]),
        )


def report_format(path: str | os.PathLike[str]) -> Format:
    """Tell by its suffix what a report file is to hold.

    Raises:
        ConfigError: It is none of ``.json``, ``.md``, ``.html``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ConfigError(
            f"Gate report {str(path)!r} has the suffix {suffix!r}; expected one of {', '.join(_FORMATS)}.",
            hint="Name it gates.json, gates.md or gates.html.",
            path=str(path),
        )
    return _FORMATS[suffix]


def write_report(path: str | os.PathLike[str], report: GateReport, *, source: str | None = None) -> None:
    """Write a report in the form its suffix asks for: JSON, Markdown or a web page.

    Args:
        path: The file.
        report: The run.
        source: Path of its JSON report, for the commands in the other forms that judge a gate again.

    Raises:
        ConfigError: The suffix is of no form.
        OutputError: The file cannot be written.
    """
    form = report_format(path)
    if form == "json":
        document = report.to_dict()
        write_document(path, document.pop("schema"), document)
    elif form == "markdown":
        from ort_quant_plugin.gates.render.markdown import markdown

        write_text(path, markdown(report, source))
    else:
        from ort_quant_plugin.gates.render.html import html

        write_text(path, html(report, source))


def read_report(path: str | os.PathLike[str]) -> GateReport:
    """Read a JSON report.

    Raises:
        ConfigError: It is missing, unreadable or no report.
    """
    document = read_document(path, SCHEMA, what=_WHAT, hint=_HINT)
    try:
        return GateReport.from_dict(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken_document(path, _WHAT, f"is damaged ({type(error).__name__}: {error})", _HINT) from error


def recheck(
    report: GateReport,
    *,
    thresholds: Mapping[str, Any] | None = None,
    gates: Sequence[Gate] | None = None,
    baselines: Baselines | None = None,
) -> GateReport:
    """Judge the measurements of a report again, without inference.

    Args:
        report: The report.
        thresholds: ``max_drop``, ``min_value``, ``max_value``, ``significance`` that replace those of every gate.
        gates: Gates that replace those of the same name. One that the report lacks is "not run", and one that now asks
            for another measurement (metric, options, models, data …) is an error.
        baselines: Where stored baselines are. Without it a baseline counts with the value the report has of it.

    Returns:
        The new report; gates that could not be measured stay as they were.
    """
    replaced, known = {gate.name: gate for gate in gates or ()}, {result.name for result in report.results}
    results = [_judged_again(result, replaced.get(result.name), thresholds, baselines) for result in report.results]
    results += [
        GateResult(gate.to_dict(), "not run", error="the report has no measurement of this gate")
        for gate in replaced.values()
        if gate.name not in known
    ]
    return dataclasses.replace(report, results=results)


def _judged_again(
    result: GateResult, gate: Gate | None, thresholds: Mapping[str, Any] | None, baselines: Baselines | None
) -> GateResult:
    if result.measurement is None:
        return result if gate is None else dataclasses.replace(result, gate=gate.to_dict())
    where = f"Gate {result.name!r}"
    settings = dict(result.gate if gate is None else gate.to_dict())
    changes = {key: value for key, value in (thresholds or {}).items() if value is not None}
    try:
        if gate is not None:
            _check_measured(gate, result, result.measurement)
        gate = Gate.from_mapping({**settings, **changes}, where=where, base=Path())
        verdict = _verdict(gate, result.measurement, result.verdict, baselines)
    except OrtQuantError as error:
        return dataclasses.replace(result, gate={**settings, **changes}, status="error", verdict=None, error=str(error))
    status: Literal["passed", "failed"] = "passed" if verdict.passed else "failed"
    return dataclasses.replace(result, gate=gate.to_dict(), status=status, verdict=verdict, error=None)


def _check_measured(gate: Gate, result: GateResult, measurement: Measurement) -> None:
    """A gate that has changed what it measures cannot be judged by an old measurement."""
    before, now = {**result.gate, "metric": measurement.metric}, gate.to_dict()
    measured = {key: before.get(key) for key in _MEASURED if not _same(key, before.get(key), now.get(key))}
    ours, theirs = _all_options(now), {**_all_options(before), **without_folders(measurement.options)}
    measured |= {key: theirs.get(key) for key in [*theirs, *ours] if not _same(key, theirs.get(key), ours.get(key))}
    if measured:
        facts = ", ".join(f"no {key}" if value is None else f"{key} {value!r}" for key, value in measured.items())
        raise ConfigError(
            f"Gate {gate.name!r}: the report holds a measurement with {facts}; the gate now asks for another.",
            hint="Measure again.",
            gate=gate.name,
        )


def _all_options(gate: Mapping[str, Any]) -> dict[str, Any]:
    """The metric's options with its defaults; as they are where the metric is not installed or does not take them."""
    from ort_quant_plugin.gates.metrics import metric_named

    options = gate.get("options", {})
    try:
        options = metric_named(gate["metric"]).parse_options(options, gate["name"])
    except ConfigError:
        options = dict(options)
    return without_folders({key: value for key, value in options.items() if value is not None})


def _same(key: str, one: Any, other: Any) -> bool:
    """Whether two settings mean the same: a report may come from another machine, where files lie elsewhere."""
    if key in _FILES and one is not None and other is not None:
        pairs = zip_longest(str(one).split(";"), str(other).split(";"), fillvalue="")
        return all(_same_file(Path(mine), Path(theirs)) for mine, theirs in pairs)
    return json.dumps(one, default=str, sort_keys=True) == json.dumps(other, default=str, sort_keys=True)


def _same_file(one: Path, other: Path) -> bool:
    if one.name != other.name:
        return False
    return not (one.exists() and other.exists()) or one.samefile(other)


def _verdict(gate: Gate, measurement: Measurement, before: Verdict | None, baselines: Baselines | None) -> Verdict:
    if gate.baseline is None:
        return judge(gate, measurement)
    if baselines is not None:
        return judge(gate, measurement, _stored(gate.baseline, baselines))
    if before is None or before.base is None or before.base_name != "baseline":
        raise ConfigError(
            f"Gate {gate.name!r}: the report has no value of the baseline {gate.baseline!r}.",
            hint="Name the folder of the baselines with --baseline-dir.",
        )
    stored = dataclasses.replace(measurement, value=before.base, value_rows=None, reference_rows=None)
    verdict = judge(gate, measurement, stored)
    verdict.notes.append("the baseline counts as exact: its samples are not in the report (--baseline-dir finds them)")
    return verdict


def _stored(name: str, baselines: Baselines) -> Measurement:
    """The baseline; where it is missing, only a run may write it."""
    stored = baselines.read(name)
    if stored is None:
        raise ConfigError(f"There is no baseline {str(baselines.path(name))!r}.", hint="Run the gate: that writes it.")
    return stored


def _used(result: GateResult) -> float:
    """Share of the budget that is used up, 0 where there is none."""
    verdict = result.verdict
    if verdict is None or verdict.drop is None or not verdict.budget:
        return 0.0
    return verdict.drop / verdict.budget
