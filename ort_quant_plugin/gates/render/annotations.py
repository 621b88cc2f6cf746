"""Gates as annotations: what GitHub and GitLab show beside the code of a change.

Sources: GitHub's "Workflow commands for GitHub Actions" (data escapes %, CR, LF; properties also : and ,); GitLab's
"Code Quality report format".
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from ort_quant_plugin.gates.render.facts import headline, note_lines, reasons
from ort_quant_plugin.gates.render.text import failure_text

if TYPE_CHECKING:
    from ort_quant_plugin.gates.measurement import GateResult
    from ort_quant_plugin.gates.report import GateReport

__all__ = ["github", "gitlab"]

_SEVERITY = {"error": "critical", "failed": "major", "not run": "minor"}
_UNKNOWN_FILE = "gates.toml"


def github(report: GateReport, path: str | None = None) -> str:
    """Write a run as workflow commands for a step's log.

    Missed gates and such that could not be measured are errors, gates that did not run warnings, notes on passed
    gates notices.

    Args:
        report: The run.
        path: Of the JSON report, for the commands that judge a gate again.

    Returns:
        One command a line; an empty string when there is nothing to say.
    """
    lines = []
    for result in report.worst_first:
        if result.status == "passed":
            lines += [_command("notice", result, note) for note in note_lines(result)]
        else:
            level = "warning" if result.status == "not run" else "error"
            lines.append(_command(level, result, failure_text(result, report=path)))
    return "\n".join(lines)


def gitlab(report: GateReport) -> str:
    """Write a run as a Code Quality report: a JSON array of what did not pass."""
    found = [
        {
            "description": "; ".join([headline(result), *reasons(result)[1:]]),
            "check_name": f"ort-quant gate {result.gate.get('metric', '')}".rstrip(),
            "fingerprint": hashlib.sha256(f"{result.name}\0{result.status}".encode()).hexdigest(),
            "severity": _SEVERITY[result.status],
            "location": {"path": _place(result)[0] or _UNKNOWN_FILE, "lines": {"begin": _place(result)[1] or 1}},
        }
        for result in report.worst_first
        if result.status != "passed"
    ]
    return json.dumps(found, indent=2, ensure_ascii=False)


def _command(level: str, result: GateResult, message: str) -> str:
    file, line = _place(result)
    properties = {"file": file, "line": str(line) if line else "", "title": f"quant gate {result.name}"}
    written = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::{level} {written}::{_data(message)}"


def _place(result: GateResult) -> tuple[str, int]:
    """File and line of ``result.where``; 0 where no line is known."""
    file, colon, line = result.where.rpartition(":")
    return (file, int(line)) if colon and line.isdecimal() else (result.where, 0)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
