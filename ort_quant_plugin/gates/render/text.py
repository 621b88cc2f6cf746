"""Gates as plain text: why one failed, on one screen, and the table of all."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from ort_quant_plugin.gates.render.cells import NUMBER_COLUMNS, SUMMARY_HEAD, count_line, summary_rows
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

__all__ = ["SUMMARY_HEAD", "count_line", "failure_text", "summary_rows", "summary_table"]

_LINES = 24
_HEAD_LINES = 6
_COLUMNS = 100
_NAME_COLUMNS = 56
_ADD_REPORT = "add --quant-report gates.json (ort-quant gate run: --report gates.json), then 'ort-quant gate recheck'"


def failure_text(result: GateResult, *, report: str | None = None) -> str:
    """Say what became of a gate and why, on a screen of 24 lines and 100 columns.

    Commands, and words longer than a line, stay whole: they are there to be copied.

    Args:
        result: The gate. The first line is the reason in one sentence.
        report: Path of the JSON report that has its measurement, for the command that judges it again.
    """
    first, *more = reasons(result)
    head = _wrapped(f"gate {shortened(result.name, _NAME_COLUMNS)!r}: {first}")
    for reason in more:
        head += _wrapped(f"and {reason}", "  ")
    head = _cut(head, _HEAD_LINES)
    layers, commands = _layers(result), _commands(result, report)
    room = _LINES - sum(len(part) + 1 for part in (head, layers, commands) if part)
    facts = _cut(_facts(result), room)
    notes = _notes(result, room - len(facts) - 1)
    return "\n\n".join("\n".join(part) for part in (head, facts, layers, notes, commands) if part)


def summary_table(report: GateReport) -> str:
    """The table of all gates, worst first, and the line that counts them."""
    rows = [list(SUMMARY_HEAD), *summary_rows(report)]
    right = [heading in NUMBER_COLUMNS for heading in SUMMARY_HEAD]
    lines = _columns([[shortened(row[0], _NAME_COLUMNS), *row[1:]] for row in rows], right, " | ")
    return "\n".join([*lines, count_line(report)])


def shortened(text: str, columns: int) -> str:
    """Cut the middle out of a long name: both ends tell names apart."""
    if len(text) <= columns:
        return text
    tail = columns // 2
    return f"{text[: columns - tail - 1]}…{text[len(text) - tail :]}"


def _facts(result: GateResult) -> list[str]:
    rows = fact_rows(result)
    width = max((len(label) for label, _ in rows), default=0)
    return [f"  {label:{width}}  {shortened(text, _COLUMNS - width - 4)}" for label, text in rows]


def _layers(result: GateResult) -> list[str]:
    rows = layer_rows(result)
    if not rows:
        return []
    cells = [LAYER_HEAD, *((shortened(row[0], _NAME_COLUMNS), *row[1:]) for row in rows)]
    return [f"  {line}" for line in _columns(cells, [False, False, True, True], "  ")]


def _notes(result: GateResult, room: int) -> list[str]:
    """The notes that fit, whole, and how many do not."""
    lines: list[str] = []
    notes = note_lines(result)
    for index, note in enumerate(notes):
        wrapped, rest = _wrapped(f"note: {note}", "  "), len(notes) - index
        if len(lines) + len(wrapped) + (rest > 1) > room:
            more = f"  {rest} more {'note' if rest == 1 else 'notes'} in the report"
            return [*lines, more] if len(lines) < room else lines
        lines += wrapped
    return lines


def _cut(lines: list[str], room: int) -> list[str]:
    return lines if len(lines) <= room else [*lines[: room - 1], "  … (the rest is in the report)"]


def _commands(result: GateResult, report: str | None) -> list[str]:
    lines = [f"  run again:    {result.rerun}"] if result.rerun else []
    if result.measurement is not None:
        lines.append(f"  judge again:  {rejudge_command(result, report) if report else _ADD_REPORT}")
    return lines


def _columns(rows: Iterable[Sequence[str]], right: Sequence[bool], gap: str) -> list[str]:
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        gap.join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in table
    ]


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of words; a long path stays whole, so that it can be copied."""
    deeper = indent + "  "
    return textwrap.wrap(
        text,
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=deeper,
        break_long_words=False,
        break_on_hyphens=False,
    )
