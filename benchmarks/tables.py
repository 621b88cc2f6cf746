"""Tables on the terminal and as Markdown, and the machine they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Table", "busy", "hardware", "machine", "markdown_page", "number", "print_tables", "versions_table"]


@dataclass
class Table:
    """Cells of text.

    Attributes:
        headings: One a column.
        left: Headings of the columns of words; the others hold numbers.
        rows: Cells.
        problems: Lines that have no numbers, by first cell: ``skipped: …`` or ``failed: …``.
        title: Above the table.
        remarks: Sentences below it.
    """

    headings: Sequence[str]
    left: frozenset[str]
    rows: list[list[str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    title: str = ""
    remarks: list[str] = field(default_factory=list)

    def markdown(self) -> list[str]:
        """The table in lines of Markdown; problems are rows of it."""
        rows = [*self.rows, *([name, why, *[""] * (len(self.headings) - 2)] for name, why in self.problems)]
        return [
            *([f"## {self.title}", ""] if self.title else []),
            "| " + " | ".join(self.headings) + " |",
            "|" + "|".join("---" if heading in self.left else "---:" for heading in self.headings) + "|",
            *("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in rows),
            "",
            *(f"* {remark}" for remark in self.remarks),
            *([""] if self.remarks else []),
        ]


def number(value: float | None, digits: int) -> str:
    """The number with so many digits behind the point; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


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


def hardware(host: Mapping[str, Any]) -> str:
    """The machine in a sentence."""
    parts = f"{host['cpu']}, {host['cores']} cores{', VNNI' if host['vnni'] else ''}, {host['memory_gib']} GiB"
    return f"{parts}, Linux {host['kernel']}, Python {host['python']}, {host['date']}."


def busy(host: Mapping[str, Any]) -> list[str]:
    """A warning where others were at work."""
    load = host["load_average"]
    return [f"The machine was busy before the start (load {load:.1f}): times are unreliable."] if load > 0.5 else []


def print_tables(tables: Iterable[Table], remarks: Iterable[str]) -> None:
    """The tables and the remarks on the terminal."""
    import rich.table
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    lines = []
    for table in tables:
        if table.title:
            console.print(f"\n{table.title}", style="bold", markup=False, highlight=False)
        shown = rich.table.Table(box=None, pad_edge=False, header_style="bold")
        for heading in table.headings:
            shown.add_column(heading, justify="left" if heading in table.left else "right")
        for cells in table.rows:
            shown.add_row(*cells)
        console.print(shown, markup=False)
        # A sentence would widen its number column: it goes below the table.
        lines = [*(f"{name}: {why}" for name, why in table.problems), *table.remarks]
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in remarks:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown_page(
    title: str, command: str, host: Mapping[str, Any], tables: Iterable[Table], remarks: Iterable[str]
) -> list[str]:
    """The page up to the versions, in lines."""
    return [
        f"# {title}",
        "",
        f"Written by `{command}`; what the columns mean is in [the README](../README.md).",
        "",
        hardware(host),
        "",
        *(line for table in tables for line in table.markdown()),
        *(f"* {remark}" for remark in remarks),
        "",
    ]


def versions_table(entries: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Which versions measured which row, in lines of Markdown."""
    return [
        "| tool | versions |",
        "|---|---|",
        *(
            f"| {label} | {', '.join(f'{name} {value}' for name, value in versions.items())} |"
            for label, versions in entries.items()
            if versions
        ),
        "",
    ]
