"""Time that the pytest plugin adds to a run that has nothing for it to do.

    python benchmarks/pytest_import.py

See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import positive, say, shown, write
from harness import interleaved
from tables import Table, busy, machine, markdown_page, number, print_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]

PLUGIN = "ort_quant_plugin.pytest_plugin"
_MODULES = "import sys, pytest; known = set(sys.modules); import {}; print(*sorted(set(sys.modules) - known))"


@dataclass
class Row:
    """One way to start pytest.

    Attributes:
        name: Shown in the table.
        arguments: Added to ``pytest --collect-only``.
        seconds: Wall time of the process, one a round.
        cpu_seconds: Its user and system time, likewise.
        modules: What is imported beside pytest itself.
    """

    name: str
    arguments: tuple[str, ...] = ()
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)

    def added(self, base: Row, clock: str = "seconds") -> list[float]:
        """Milliseconds on top of another row, round by round: what slows a whole round cancels out."""
        pairs = zip(getattr(self, clock), getattr(base, clock), strict=True)
        return [1000 * (ours - theirs) for ours, theirs in pairs]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=positive, default=40, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as a page")
    arguments = parser.parse_args(argv)
    host = machine()
    rows = measure(arguments.repeats)
    report = document(rows, host, arguments.repeats)
    print_tables([table(rows)], remarks(report))
    if arguments.json:
        write(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.markdown:
        page = markdown_page(
            "Import of the pytest plugin", shown("pytest_import.py", argv), host, [table(rows)], remarks(report)
        )
        write(arguments.markdown, "\n".join(page) + "\n")
    return 0


def measure(repeats: int) -> list[Row]:
    """Start pytest in an empty folder, in all ways in turn."""
    rows = [
        Row("pytest alone"),
        Row("with this plugin", ("-p", PLUGIN)),
        Row("with NumPy, for scale", ("-p", "numpy")),
    ]
    with tempfile.TemporaryDirectory(prefix="ort-quant-bench-") as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        for row in rows:
            _collect(row, folder)  # the first start writes the byte code
            row.modules = _imported(row.arguments[-1]) if row.arguments else []
        for done, row in interleaved(rows, repeats):
            seconds, cpu_seconds = _collect(row, folder)
            row.seconds.append(seconds)
            row.cpu_seconds.append(cpu_seconds)
            if row is rows[-1] and (done + 1) % 10 == 0:
                say(f"{done + 1} of {repeats} rounds")
    return rows


def _collect(row: Row, folder: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *row.arguments]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": str(Path(folder, "bytecode")),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 5:  # pytest's status for "no tests"
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _imported(module: str) -> list[str]:
    code = _MODULES.format(module)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def document(rows: Sequence[Row], host: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """The JSON document."""
    return {
        "schema": "ort-quant/benchmark-pytest-import/1",
        "machine": dict(host),
        "settings": {"repeats": repeats},
        "rows": [
            {**asdict(row), "added_ms": statistics.median(row.added(rows[0])) if row is not rows[0] else None}
            for row in rows
        ],
    }


def table(rows: Sequence[Row]) -> Table:
    """The rows, with what each adds to the first."""
    found = Table(
        ("run", "median ms", "min–max", "added ms", "middle half", "added CPU ms", "modules"), frozenset({"run"})
    )
    for row in rows:
        times = [1000 * seconds for seconds in row.seconds]
        added = sorted(row.added(rows[0]))
        quarter = len(added) // 4
        found.rows.append(
            [
                row.name,
                number(statistics.median(times), 1),
                f"{min(times):.0f}–{max(times):.0f}",
                number(statistics.median(added) if row.arguments else None, 1),
                f"{added[quarter]:.1f}–{added[-1 - quarter]:.1f}" if row.arguments else "",
                number(statistics.median(row.added(rows[0], "cpu_seconds")) if row.arguments else None, 1),
                str(len(row.modules)) if row.arguments else "",
            ]
        )
    return found


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What the table does not show."""
    foreign = [name for name in report["rows"][1]["modules"] if not name.startswith("ort_quant_plugin")]
    return [
        f"{report['settings']['repeats']} rounds of `pytest --collect-only` in an empty project.",
        f"Modules of others that the plugin imports: {', '.join(foreign) or 'none'}.",
        *busy(report["machine"]),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
