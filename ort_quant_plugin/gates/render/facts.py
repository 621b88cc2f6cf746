"""What there is to say about one gate, for every form it is said in."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.gates.render.values import (
    NOTHING,
    difference_text,
    interval_text,
    p_value_text,
    value_text,
)

if TYPE_CHECKING:
    from ort_quant_plugin.gates.measurement import GateResult, Measurement, Verdict

__all__ = ["LAYER_HEAD", "fact_rows", "headline", "layer_rows", "note_lines", "reasons", "rejudge_command"]

LAYER_HEAD = ("worst layers", "operator", "SQNR", "adds noise")
"""Headings of :func:`layer_rows`."""

_SHOWN_LAYERS = 3


def headline(result: GateResult) -> str:
    """The one sentence that says what became of a gate."""
    first, *_ = reasons(result)
    return f"gate {result.name!r}: {first}"


def reasons(result: GateResult) -> list[str]:
    """Why a gate has the status it has, one sentence each; at least one."""
    if result.status == "error":
        task = "measured" if result.measurement is None else "judged"
        return [f"could not be {task}: {result.error or 'no reason given'}"]
    if result.status == "not run":
        return [f"did not run{': ' + result.error if result.error else ''}"]
    if result.verdict is not None and result.verdict.reasons:
        return list(result.verdict.reasons)
    return ["passed" if result.status == "passed" else "failed"]


def fact_rows(result: GateResult) -> list[tuple[str, str]]:
    """Label and text of what was measured; empty where nothing was."""
    measurement, verdict = result.measurement, result.verdict
    if measurement is None:
        return []
    better = "higher" if measurement.higher_is_better else "lower"
    rows = [
        ("metric", f"{measurement.metric}{_options(result)}, {better} is better"),
        ("int8", f"{value_text(measurement.value, measurement.unit)}{_file(measurement, 'model')}"),
    ]
    if measurement.kind == "own" and measurement.reference is not None:
        rows.append(
            ("float", f"{value_text(measurement.reference, measurement.unit)}{_file(measurement, 'reference')}")
        )
    elif "reference" in measurement.models:
        rows.append(("float", _file(measurement, "reference").strip()))
    if verdict is not None:
        rows += _verdict_rows(verdict, measurement)
    rows.append(("samples", _samples(measurement, verdict)))
    rows += [(key.replace("_", " "), _detail(value)) for key, value in measurement.details.items()]
    return rows


def layer_rows(result: GateResult) -> list[tuple[str, str, str, str]]:
    """The layers to blame, worst first, in the columns of :data:`LAYER_HEAD`."""
    layers = result.measurement.layers[:_SHOWN_LAYERS] if result.measurement is not None else []
    return [
        (
            layer.name,
            layer.op_type,
            NOTHING if layer.sqnr_db is None else value_text(layer.sqnr_db, "dB"),
            f"{100 * layer.added_noise:.2g} %",
        )
        for layer in layers
    ]


def note_lines(result: GateResult) -> list[str]:
    """What the reader should know besides."""
    notes = list(result.verdict.notes) if result.verdict is not None else []
    measurement = result.measurement
    if measurement is not None and measurement.layers_note and result.status == "failed":
        subject = "layers" if measurement.layers else "no layers are named"
        notes.append(f"{subject}: {measurement.layers_note}")
    return notes


def rejudge_command(result: GateResult, report: str) -> str:
    """The command that judges a gate again, without inference."""
    return f"ort-quant gate recheck {shlex.quote(report)} --gate {shlex.quote(result.name)}"


def _verdict_rows(verdict: Verdict, measurement: Measurement) -> list[tuple[str, str]]:
    rows = []
    if verdict.base_name == "baseline":
        rows.append(("baseline", value_text(verdict.base, measurement.unit)))
    if verdict.drop is not None:
        base = {"float": "the float model", "baseline": "the baseline"}.get(verdict.base_name, verdict.base_name)
        allowed = "" if verdict.budget is None else f"; allowed {difference_text(verdict.budget, measurement.unit)}"
        rows.append(("drop", f"{difference_text(verdict.drop, measurement.unit)} from {base}{allowed}"))
    if verdict.interval is not None:
        of_drop = verdict.interval_of == "drop"
        ends = interval_text(verdict.interval, measurement.unit, of_drop=of_drop)
        rows.append(("95 % CI", f"{ends} ({verdict.interval_of})"))
    return rows


def _samples(measurement: Measurement, verdict: Verdict | None) -> str:
    text = str(measurement.samples) if measurement.samples else NOTHING
    if verdict is not None and verdict.p_value is not None:
        text += f"; McNemar's exact test: p = {p_value_text(verdict.p_value)}"
    return text


def _options(result: GateResult) -> str:
    given = [f"{key}={value}" for key, value in result.gate.get("options", {}).items()]
    return f" ({', '.join(given)})" if given else ""


def _file(measurement: Measurement, role: str) -> str:
    path = measurement.models.get(role, {}).get("path")
    return f"  {_short_path(str(path))}" if path else ""


def _short_path(path: str) -> str:
    """Relative where it lies below the working folder: shorter, and the same on every machine."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _detail(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
