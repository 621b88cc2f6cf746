"""Rows of measurements as a table, as JSON and as Markdown."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from catalogue import MIN_MAX, OURS, PLAIN
from harness import median, ratio
from tables import Table, busy, markdown_page, number, print_tables, versions_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalogue import Tool
    from harness import Run

__all__ = ["Flatness", "Row", "document", "markdown", "print_report", "remarks"]

HEADINGS = (
    "tool",
    "calibration s",
    "total s",
    "min–max",
    "total ÷ fp32",
    "total ÷ MinMax",
    "peak MiB",
    "(libraries)",
    "model",
    "SQNR dB",
    "agree %",
    "top-1 %",
)


@dataclass
class Row:
    """One tool.

    Attributes:
        tool: What ran.
        runs: Its measurements, one a round.
        problem: Why there are none: ``skipped: …`` or ``failed: …``.
        scores: Quality by kind of model.
    """

    tool: Tool
    runs: list[Run] = field(default_factory=list)
    problem: str | None = None
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Flatness:
    """Our peak memory over different numbers of samples.

    Attributes:
        few: Samples of the smaller runs.
        many: Samples of the larger runs, the same files again and again.
        few_runs: Measurements.
        many_runs: Measurements.
    """

    few: int
    many: int
    few_runs: list[Run] = field(default_factory=list)
    many_runs: list[Run] = field(default_factory=list)

    @property
    def growth(self) -> float | None:
        """Ratio of the median peaks."""
        few, many = median(self.few_runs, "peak_mb"), median(self.many_runs, "peak_mb")
        return many / few if many and few else None


def document(
    settings: Mapping[str, Any],
    host: Mapping[str, Any],
    rows: Sequence[Row],
    flatness: Flatness | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """The JSON document: every measurement, and the medians of the table."""
    runs = {row.tool.name: row.runs for row in rows}
    plain, base = runs.get(PLAIN.name, []), runs.get(MIN_MAX.name, [])
    return {
        "schema": "ort-quant/benchmark-calibration/1",
        "machine": dict(host),
        "settings": dict(settings),
        "rows": [_entry(row, plain, base) for row in rows],
        "flatness": None if flatness is None else {**asdict(flatness), "growth": flatness.growth},
        "notes": list(notes),
    }


def _entry(row: Row, plain: Sequence[Run], base: Sequence[Run]) -> dict[str, Any]:
    parts = sorted({name for run in row.runs for name in run.result.parts})
    names = ["total", "process", "cpu", "peak_mb", "libraries_mb", *parts]
    return {
        "tool": row.tool.name,
        "label": row.tool.label,
        "problem": row.problem,
        "versions": row.runs[0].result.versions if row.runs else {},
        "median": {name: median(row.runs, name) for name in names} if row.runs else {},
        "ratios": {
            "total_to_fp32": ratio(row.runs, "total", plain),
            "calibration_to_fp32": ratio(row.runs, "calibration", plain),
            "total_to_minmax": ratio(row.runs, "total", base),
            "calibration_to_minmax": ratio(row.runs, "calibration", base),
            "peak_to_minmax": ratio(row.runs, "peak_mb", base, "peak_mb"),
        },
        "scores": row.scores,
        "runs": [asdict(run) for run in row.runs],
    }


def _table(entries: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(HEADINGS, frozenset({"tool", "model"}))
    for entry in entries:
        if entry["problem"] is not None:
            table.problems.append((entry["label"], entry["problem"]))
            continue
        totals = [run["result"]["seconds"] for run in entry["runs"]]
        cost = [
            entry["label"],
            number(entry["median"].get("calibration"), 2),
            number(statistics.median(totals), 2),
            f"{min(totals):.2f}–{max(totals):.2f}",
            number(entry["ratios"]["total_to_fp32"], 2),
            number(entry["ratios"]["total_to_minmax"], 2),
            number(entry["median"]["peak_mb"], 0),
            number(entry["median"]["libraries_mb"], 0),
        ]
        models = [_quality(kind, score) for kind, score in entry["scores"].items()] or [[""] * 4]
        table.rows.append(cost + models[0])
        table.rows.extend([[""] * len(cost) + quality for quality in models[1:]])
    return table


def _quality(kind: str, score: Mapping[str, Any]) -> list[str]:
    if "error" in score:
        return [kind, score["error"], "", ""]
    shares = [number(None if score[name] is None else 100 * score[name], 2) for name in ("agreement", "top1")]
    return [kind, number(score["sqnr_db"], 2), *shares]


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What the table does not show, in sentences."""
    entries = {entry["tool"]: entry for entry in report["rows"] if entry["problem"] is None}
    settings, host = report["settings"], report["machine"]
    counts = f"{settings['calibration']} samples to calibrate, {settings['evaluation']} to judge"
    found = [f"{counts}; {settings['repeats']} rounds, medians, ratios within a round."]
    plain, ours = entries.get(PLAIN.name), entries.get(OURS.name)
    if plain:
        found.append(
            f"fp32 inference with the samples in memory: {plain['median']['in_memory']:.2f} s; "
            f"its session: {plain['median']['session']:.2f} s, in neither figure."
        )
    if ours:
        against = [
            f"{ratios:.2f}× {name}"
            for name, ratios in (
                ("fp32 inference", ours["ratios"]["calibration_to_fp32"]),
                ("ONNX Runtime MinMax", ours["ratios"]["calibration_to_minmax"]),
            )
            if ratios is not None
        ]
        if against:
            found.append(f"Our calibration run alone: {', '.join(against)}.")
    if report["flatness"] is not None and report["flatness"]["growth"] is not None:
        flat = report["flatness"]
        found.append(
            f"Our peak memory over {flat['many']} samples is {flat['growth']:.3f}× that over {flat['few']} samples."
        )
    found.extend(report["notes"])
    return found + busy(host)


def print_report(report: Mapping[str, Any]) -> None:
    """The table and the remarks on the terminal."""
    print_tables([_table(report["rows"])], remarks(report))


def markdown(report: Mapping[str, Any], command: str) -> str:
    """The table as a Markdown page."""
    table = _table(report["rows"])
    versions = {entry["label"]: entry["versions"] for entry in report["rows"]}
    lines = markdown_page("Calibration", command, report["machine"], [table], remarks(report))
    return "\n".join([*lines, *versions_table(versions)])
