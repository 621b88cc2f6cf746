"""The table of all gates of a run, cell by cell, for every form it is shown in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.gates.render.values import NOTHING, difference_text, value_text

if TYPE_CHECKING:
    from ort_quant_plugin.gates.measurement import GateResult
    from ort_quant_plugin.gates.report import GateReport

__all__ = ["NUMBER_COLUMNS", "SUMMARY_HEAD", "count_line", "summary_cells", "summary_rows", "verdict_word"]

SUMMARY_HEAD = ("gate", "metric", "float", "int8", "drop", "budget", "n", "verdict")
"""Headings of :func:`summary_rows`."""

NUMBER_COLUMNS = ("float", "int8", "drop", "budget", "n")
"""Columns to align right."""

_WORDS = {"passed": "passed", "failed": "FAILED", "error": "ERROR", "not run": "not run"}


def summary_rows(report: GateReport) -> list[list[str]]:
    """The cells of all gates, worst first."""
    return [summary_cells(result) for result in report.worst_first]


def summary_cells(result: GateResult) -> list[str]:
    """The cells of one gate, in the order of :data:`SUMMARY_HEAD`."""
    measurement, verdict = result.measurement, result.verdict
    unit = None if measurement is None else measurement.unit
    return [
        result.name,
        str(result.gate.get("metric", NOTHING)),
        _base_cell(result),
        NOTHING if measurement is None else value_text(measurement.value, measurement.unit),
        NOTHING if verdict is None or unit is None else difference_text(verdict.drop, unit),
        _budget_cell(result, unit),
        str(measurement.samples) if measurement is not None and measurement.samples else NOTHING,
        verdict_word(result),
    ]


def verdict_word(result: GateResult) -> str:
    """``passed``, ``passed (chance)``, ``FAILED``, ``ERROR`` or ``not run``."""
    if result.status == "passed" and result.verdict is not None and result.verdict.within_chance:
        return "passed (chance)"
    return _WORDS[result.status]


def count_line(report: GateReport) -> str:
    """``quant gates: 7 passed, 1 failed, 1 not run``; what could not be measured counts as failed."""
    return f"quant gates: {len(report.passed)} passed, {len(report.failed)} failed, {len(report.not_run)} not run"


def _base_cell(result: GateResult) -> str:
    """What the drop is counted from; the value of equal models goes without saying."""
    measurement, verdict = result.measurement, result.verdict
    if measurement is None:
        return NOTHING
    if verdict is not None and verdict.base_name == "baseline":
        return f"baseline {value_text(verdict.base, measurement.unit)}"
    return value_text(measurement.reference, measurement.unit) if measurement.kind == "own" else NOTHING


def _budget_cell(result: GateResult, unit: str | None) -> str:
    gate, cells = result.gate, []
    if "max_drop" in gate:
        cells.append(f"{gate['max_drop']:g}" if unit is None else difference_text(gate["max_drop"], unit))
    for key, sign in (("min_value", "≥"), ("max_value", "≤")):
        if key in gate:
            cells.append(f"{sign} {gate[key]:g}" if unit is None else f"{sign} {value_text(gate[key], unit)}")
    return ", ".join(cells) or NOTHING
