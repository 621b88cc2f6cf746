"""Gates as one web page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from ort_quant_plugin.gates.render.cells import NUMBER_COLUMNS, SUMMARY_HEAD, count_line, summary_cells
from ort_quant_plugin.gates.render.facts import (
    LAYER_HEAD,
    fact_rows,
    layer_rows,
    note_lines,
    reasons,
    rejudge_command,
)
from ort_quant_plugin.gates.render.values import difference_text, interval_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ort_quant_plugin.gates.measurement import GateResult, Verdict
    from ort_quant_plugin.gates.report import GateReport

__all__ = ["html"]

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --idle: #6e7781; --line: #d0d7de; --soft: #f6f8fa;
  --ink: #1f2328; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --idle: #9198a1; --line: #3d444d;
  --soft: #151b23; --ink: #f0f6fc; --paper: #0d1117; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { border-spacing: 0; width: 100%; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--idle); font-size: .85rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .idle { color: var(--idle); }
section { border: 1px solid var(--line); border-left: .3rem solid var(--bad); border-radius: .4rem;
  padding: .8rem 1rem; margin: 1rem 0; }
section.not-run { border-left-color: var(--idle); }
section table, footer table { width: auto; margin: .6rem 0; }
section td, section th, footer td { padding: .15rem 1.2rem .15rem 0; border: 0; }
footer { color: var(--idle); font-size: .85rem; margin: 2rem 0; }
.label { color: var(--idle); white-space: nowrap; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .5rem .8rem; border-radius: .4rem; overflow-x: auto; margin: .6rem 0 0; }
.axis { position: relative; height: 2.6rem; max-width: 34rem; margin: .6rem 3rem .4rem; border-bottom: 0; }
.axis * { position: absolute; }
.tick { top: 0; height: 1.4rem; border-left: 1px dashed var(--idle); }
.tick + small { top: 1.4rem; transform: translateX(-50%); color: var(--idle); white-space: nowrap; }
.limit { border-left-color: var(--good); }
.range { top: .6rem; height: .2rem; background: var(--bad); }
.point { top: .4rem; width: .6rem; height: .6rem; margin-left: -.3rem; border-radius: 50%; background: var(--bad); }
"""

_CLASSES = {"passed": "good", "failed": "bad", "error": "bad", "not run": "idle"}
_LABEL = 0.15
"""Share of the axis that half a label takes."""


def html(report: GateReport, path: str | None = None) -> str:
    """Write a run as a page: the table of all gates, then each that did not pass.

    Args:
        report: The run.
        path: Of the JSON report, for the commands that judge a gate again.
    """
    sections = [_section(result, path) for result in report.worst_first if result.status != "passed"]
    notes = [
        f"<p><b>{escape(result.name)}</b>: {escape(note)}</p>"
        for result in report.worst_first
        if result.status == "passed"
        for note in note_lines(result)
    ]
    body = [
        f"<h1>Quantization gates</h1>\n{_counts(report)}",
        _overview(report),
        *notes,
        *sections,
        _environment(report),
    ]
    title = escape(count_line(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _counts(report: GateReport) -> str:
    groups = (("failed", report.failed), ("not run", report.not_run), ("passed", report.passed))
    words = [f'<span class="{_CLASSES[word]}">{len(found)} {word}</span>' for word, found in groups]
    measured = f"{report.seconds:.1f} s" + (f", {escape(report.created)}" if report.created else "")
    return f'<p>{" · ".join(words)} <span class="idle">({measured})</span></p>'


def _overview(report: GateReport) -> str:
    head = "".join(_cell(heading, heading in NUMBER_COLUMNS, "th") for heading in SUMMARY_HEAD)
    rows = []
    for result in report.worst_first:
        *cells, verdict = summary_cells(result)
        row = [_cell(cell, heading in NUMBER_COLUMNS) for heading, cell in zip(SUMMARY_HEAD, cells, strict=False)]
        rows.append(f'<tr>{"".join(row)}<td class="{_CLASSES[result.status]}">{escape(verdict)}</td></tr>')
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n' + "\n".join(rows) + "\n</table></div>"


def _section(result: GateResult, path: str | None) -> str:
    kind = ' class="not-run"' if result.status == "not run" else ""
    parts = [f"<h2>{escape(result.name)}</h2>", *(f"<p>{escape(reason)}</p>" for reason in reasons(result))]
    if result.verdict is not None and result.measurement is not None:
        parts.append(_picture(result.verdict, result.measurement.unit))
    parts.append(_pairs(fact_rows(result)))
    layers = layer_rows(result)
    if layers:
        parts.append(_layer_table(layers))
    parts += [f'<p class="idle">{escape(note)}</p>' for note in note_lines(result)]
    commands = [command for command in (result.rerun, rejudge_command(result, path) if path else "") if command]
    if commands:
        parts.append(f"<pre>{escape(chr(10).join(commands))}</pre>")
    return f"<section{kind}>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def _layer_table(layers: Iterable[Sequence[str]]) -> str:
    head = "".join(_cell(heading, index > 1, "th") for index, heading in enumerate(LAYER_HEAD))
    rows = [
        f"<tr><td><code>{escape(name)}</code></td>"
        + "".join(_cell(cell, index > 0) for index, cell in enumerate(rest))
        + "</tr>"
        for name, *rest in layers
    ]
    return f"<table>\n<tr>{head}</tr>\n" + "\n".join(rows) + "\n</table>"


def _picture(verdict: Verdict, unit: str) -> str:
    """The drop with its interval beside what is allowed, on one axis."""
    if verdict.drop is None or verdict.interval is None or verdict.interval_of != "drop":
        return ""
    marks = [0.0, verdict.drop, *verdict.interval, verdict.budget or 0.0]
    low, high = min(marks), max(marks)
    if not all(map(math.isfinite, marks)) or low == high:
        return ""

    def percent(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    def tick(value: float, kind: str, label: str) -> str:
        at = f'style="left: {percent(value)}"'
        return f'<span class="tick{kind}" {at}></span><small {at}>{escape(label)}</small>'

    start, end = verdict.interval
    allowed, crowded = verdict.budget, (verdict.budget or 0.0) < _LABEL * (high - low)
    parts = [
        tick(0.0, "", "" if allowed and crowded else "0"),
        tick(allowed, " limit", f"allowed {difference_text(allowed, unit)}") if allowed else "",
        f'<span class="range" style="left: {percent(start)}; width: {percent(low + end - start)}"></span>',
        f'<span class="point" style="left: {percent(verdict.drop)}"></span>',
    ]
    label = f"drop {difference_text(verdict.drop, unit)}, {interval_text(verdict.interval, unit, of_drop=True)}"
    return f'<div class="axis" role="img" aria-label="{escape(label)}">{"".join(parts)}</div>'


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = [
        f'<tr><td class="label">{escape(label)}</td><td class="name">{escape(text)}</td></tr>' for label, text in rows
    ]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _environment(report: GateReport) -> str:
    if not report.environment:
        return ""
    return f"<footer><h2>Environment</h2>{_pairs(list(report.environment.items()))}</footer>"


def _cell(text: str, right: bool, tag: str = "td") -> str:
    return f'<{tag} class="{"number" if right else "name"}">{escape(text)}</{tag}>'
