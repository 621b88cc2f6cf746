"""Gates as a comment on a pull request: GitHub and GitLab Markdown."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from ort_quant_plugin.gates.render.cells import NUMBER_COLUMNS, SUMMARY_HEAD, summary_cells
from ort_quant_plugin.gates.render.facts import (
    LAYER_HEAD,
    fact_rows,
    layer_rows,
    note_lines,
    reasons,
    rejudge_command,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ort_quant_plugin.gates.measurement import GateResult
    from ort_quant_plugin.gates.report import GateReport

__all__ = ["MARK", "markdown"]

MARK = "<!-- ort-quant gates -->"
"""First line: by it a workflow finds the comment it wrote before, to replace it."""

_SIGNS = {"passed": "✅", "failed": "❌", "error": "💥", "not run": "⚪"}
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_CALLING = re.compile(r"[@#](?=\w)")
_LONGEST = 60_000
"""Characters; GitHub refuses comments of more than 65 536."""


def markdown(report: GateReport, path: str | None = None) -> str:
    """Write a run as Markdown: a table of all gates, then why some did not pass.

    Args:
        report: The run.
        path: Of the JSON report, for the commands that judge a gate again.
    """
    parts = [MARK, f"### {_title(report)}", _table(SUMMARY_HEAD, map(_row, report.worst_first), NUMBER_COLUMNS)]
    notes = [
        f"- **{_text(result.name)}**: {_text(note)}"
        for result in report.worst_first
        if result.status == "passed"
        for note in note_lines(result)
    ]
    if notes:
        parts.append("\n".join(notes))
    details = [_details(result, path) for result in report.worst_first if result.status != "passed"]
    parts += _fitting(details, _LONGEST - sum(map(len, parts)))
    parts.append(_footer(report))
    return "\n\n".join(parts) + "\n"


def _title(report: GateReport) -> str:
    if not report.results:
        return "⚪ Quantization gates: none"
    counts = ((len(report.failed), "failed"), (len(report.not_run), "not run"), (len(report.passed), "passed"))
    sign = "❌" if report.failed else "⚪" if report.not_run else "✅"
    return f"{sign} Quantization gates: {', '.join(f'{count} {word}' for count, word in counts if count)}"


def _row(result: GateResult) -> list[str]:
    *cells, verdict = summary_cells(result)
    verdict = f"**{verdict}**" if result.status in {"failed", "error"} else verdict
    return [*map(_text, cells), f"{_SIGNS[result.status]} {verdict}"]


def _details(result: GateResult, path: str | None) -> str:
    """A section that is open for what failed, and closed for what did not run."""
    first, *more = reasons(result)
    opened = " open" if result.status in {"failed", "error"} else ""
    summary = f"<b>{_text(result.name)}</b>: {_text(first)}"
    parts = [f"<details{opened}><summary>{summary}</summary>"]
    if more:
        parts.append("\n".join(f"- {_text(reason)}" for reason in more))
    facts = fact_rows(result)
    if facts:
        parts.append(_table(("measured", ""), [[_text(label), _text(text)] for label, text in facts], ()))
    layers = layer_rows(result)
    if layers:
        cells = [[_code(name), *map(_text, rest)] for name, *rest in layers]
        parts.append(_table(LAYER_HEAD, cells, LAYER_HEAD[2:]))
    notes = note_lines(result)
    if notes:
        parts.append("\n".join(f"> {_text(note)}" for note in notes))
    commands = [command for command in (result.rerun, rejudge_command(result, path) if path else "") if command]
    if commands:
        parts.append("\n".join(["```sh", *map(_one_line, commands), "```"]))
    return "\n\n".join([*parts, "</details>"])


def _footer(report: GateReport) -> str:
    facts = report.environment
    where = [f"{key} {facts[key]}" for key in ("onnxruntime", "ort_quant_plugin", "isa", "cpu") if key in facts]
    when = [f"{report.seconds:.1f} s", report.created] if report.created else [f"{report.seconds:.1f} s"]
    return f"<sub>{_text(' · '.join([*where, *when]))}</sub>"


def _fitting(sections: Sequence[str], room: int) -> list[str]:
    """As many sections as a comment can hold, and how many it cannot."""
    for index, section in enumerate(sections):
        room -= len(section) + 2
        if room < 0:
            rest = len(sections) - index
            return [*sections[:index], f"{rest} more {'is' if rest == 1 else 'are'} explained in the report."]
    return list(sections)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str]) -> str:
    lines = [head, ["--:" if heading in right else "---" for heading in head], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Keep names and messages from being read as Markdown, HTML, mentions or issue numbers."""
    shown = _CALLING.sub("\\g<0>\N{ZERO WIDTH SPACE}", _one_line(text))
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", html.escape(shown, quote=False))


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _one_line(text: str) -> str:
    return " ".join(text.split())
