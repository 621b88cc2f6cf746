"""Rows of measurements as a table, as JSON and as Markdown."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalogue import MIN_MAX, OURS, PLAIN
from harness import median, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalogue import Tool
    from harness import Run

__all__ = ["Flatness", "Row", "document", "machine", "markdown", "print_report", "remarks"]

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


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the software."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": fields.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "vnni": bool({"avx512_vnni", "avx_vnni"} & set(fields.get("flags", "").split())),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
    }


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


def _cells(entries: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    cells = []
    for entry in entries:
        if entry["problem"] is not None:
            cells.append([entry["label"], entry["problem"], *[""] * (len(HEADINGS) - 2)])
            continue
        totals = [run["result"]["seconds"] for run in entry["runs"]]
        cost = [
            entry["label"],
            _number(entry["median"].get("calibration"), 2),
            _number(statistics.median(totals), 2),
            f"{min(totals):.2f}–{max(totals):.2f}",
            _number(entry["ratios"]["total_to_fp32"], 2),
            _number(entry["ratios"]["total_to_minmax"], 2),
            _number(entry["median"]["peak_mb"], 0),
            _number(entry["median"]["libraries_mb"], 0),
        ]
        models = [_quality(kind, score) for kind, score in entry["scores"].items()] or [[""] * 4]
        cells.append(cost + models[0])
        cells.extend([[""] * len(cost) + quality for quality in models[1:]])
    return cells


def _quality(kind: str, score: Mapping[str, Any]) -> list[str]:
    if "error" in score:
        return [kind, score["error"], "", ""]
    shares = [_number(None if score[name] is None else 100 * score[name], 2) for name in ("agreement", "top1")]
    return [kind, _number(score["sqnr_db"], 2), *shares]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


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
    if host["load_average"] > 0.5:
        found.append(f"The machine was busy before the start (load {host['load_average']:.1f}): times are unreliable.")
    return found


def print_report(report: Mapping[str, Any]) -> None:
    """The table and the remarks on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in {"tool", "model"} else "right")
    problems = []
    for cells in _cells(report["rows"]):
        # A sentence would widen its number column: it goes below the table.
        if cells[1].startswith(("skipped", "failed")):
            problems.append(f"{cells[0]}: {cells[1]}")
        else:
            table.add_row(*cells)
    console.print(table)
    for line in [*problems, *remarks(report)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown(report: Mapping[str, Any], command: str) -> str:
    """The table as a Markdown page."""
    host = report["machine"]
    hardware = f"{host['cpu']}, {host['cores']} cores{', VNNI' if host['vnni'] else ''}, {host['memory_gib']} GiB"
    lines = [
        "# Calibration",
        "",
        f"Written by `{command}`; what the columns mean is in [the README](../README.md).",
        "",
        f"{hardware}, Linux {host['kernel']}, Python {host['python']}, {host['date']}.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "|".join("---" if heading in {"tool", "model"} else "---:" for heading in HEADINGS) + "|",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in _cells(report["rows"])),
        "",
        *(f"* {remark}" for remark in remarks(report)),
        "",
        "| tool | versions |",
        "|---|---|",
        *(
            f"| {entry['label']} | {', '.join(f'{name} {number}' for name, number in entry['versions'].items())} |"
            for entry in report["rows"]
            if entry["versions"]
        ),
        "",
    ]
    return "\n".join(lines)
