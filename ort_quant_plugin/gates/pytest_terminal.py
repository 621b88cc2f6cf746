"""What the gates of a pytest run print: one line above the tests, a table below them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ort_quant_plugin.gates.pytest_session import GateSession
    from ort_quant_plugin.gates.report import GateReport

__all__ = ["header", "summarize"]

_SHOWN = ("onnxruntime", "isa", "ORT_QUANT_ISA", "numpy", "cpu")


def header(gates: GateSession) -> str | None:
    """A line for runs that set an option of the plugin; others are not told of it.

    ONNX Runtime and the instruction set are named below the tests: asking for them means to load them.
    """
    options = gates.options
    if not options.any_set:
        return None
    from ort_quant_plugin import __version__

    facts = [f"ort-quant-plugin {__version__}"]
    facts += [f"{name}={os.environ[name]}" for name in ("ORT_QUANT_LIBRARY", "ORT_QUANT_ISA") if name in os.environ]
    facts += [f"baselines: {gates.shown(options.baseline_dir)}"] if options.baseline_dir else []
    facts += ["baselines are rewritten"] if options.update_baselines else []
    facts += [f"at most {options.max_samples} samples"] if options.max_samples else []
    facts += ["every gate must run"] if options.require_gates else []
    return f"quant gates: {', '.join(facts)}"


def summarize(gates: GateSession, terminal: Any) -> None:
    """The table of all gates, where the reports are, what is wrong with the run as a whole."""
    report = gates.report
    if report is None:
        _problems(gates, terminal)
        return
    from ort_quant_plugin.gates.render.annotations import github, gitlab
    from ort_quant_plugin.gates.render.text import count_line, summary_table

    bad = bool(report.failed or gates.problems)
    if len(report.not_run) < len(report.results):
        terminal.section("quant gates")
        for line in summary_table(report).splitlines()[:-1]:
            terminal.write_line(line)
        facts = [f"{name} {report.environment[name]}" for name in _SHOWN if name in report.environment]
        if facts:
            terminal.write_line(", ".join(facts))
        for note, names in _notes(report).items():
            terminal.write_line(f"note on {', '.join(names)}: {note}")
    if report.results:
        terminal.write_line(count_line(report), red=bad, green=not bad)
    for path in gates.written:
        terminal.write_line(f"quant report: {gates.shown(path)}")
    _problems(gates, terminal)
    if gates.options.annotations == "github":
        terminal.write_line(github(report, path=gates.saved_report))
    elif gates.options.annotations == "gitlab":
        terminal.write_line(gitlab(report))


def _problems(gates: GateSession, terminal: Any) -> None:
    for problem in gates.problems:
        terminal.write_line(f"error: {problem}", red=True)


def _notes(report: GateReport) -> dict[str, list[str]]:
    """What to know of gates that hold, by what is said of them; those that do not hold have said it themselves."""
    found: dict[str, list[str]] = {}
    for result in report.passed:
        for note in result.verdict.notes if result.verdict is not None else ():
            found.setdefault(note, []).append(result.name)
    return found
