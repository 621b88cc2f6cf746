"""``ort-quant triton validate``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, get_output, stylize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.text import Text

    from ort_quant_plugin.triton.finding import Finding

__all__ = ["command"]

_STYLES = {"error": "bold red", "warning": "yellow", "ok": "green"}


@click.command("validate")
@click.argument("repository", metavar="DIR")
@click.option("--release", metavar="YY.MM", help="Triton release that will serve it: are the libraries old enough?")
@click.option("--server", metavar="URL", help="Running server on this repository: is it loaded, and are answers right?")
@click.option("--run/--no-run", default=True, show_default=True, help="Run zeros through every model on this machine.")
@click.option("--strict", is_flag=True, help="Warnings count as findings too (exit code 1).")
@options.json_option
def command(repository: str, release: str | None, server: str | None, run: bool, strict: bool) -> int:
    """Check a model repository: would a server load it, and answer as the models do?

    Exit code 1: an error was found.
    """
    from ort_quant_plugin.triton.validate import validate_repository

    output = get_output()
    findings = validate_repository(repository, release=release, server=server, run=run)
    counts: Counter[str] = Counter(finding.level for finding in findings)
    failed = bool(counts["error"] or (strict and counts["warning"]))
    document = {
        "repository": repository,
        "release": release,
        "server": server,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "passed": not failed,
        "findings": [finding.to_dict() for finding in findings],
    }
    output.result(document, _parts(output, findings, counts, failed=failed))
    return int(failed)


def _parts(
    output: Output, findings: Sequence[Finding], counts: Counter[str], *, failed: bool
) -> Iterator[RenderableType]:
    rows: list[list[str | Text]] = [
        [finding.model, stylize(finding.level, _STYLES[finding.level]), finding.subject, finding.message]
        for finding in findings
    ]
    yield output.table(["Model", "", "Subject", ("Finding", "wrap")], rows)
    hints = dict.fromkeys(f.hint for f in findings if f.hint and f.level != "ok")
    if hints:
        yield ""
        for hint in hints:
            yield stylize("hint: ", "bold cyan").append(hint)
    yield ""
    models = views.count(len({finding.model for finding in findings}), "model")
    yield (
        f"{'FAILED' if failed else 'PASSED'}: {models}, {views.count(counts['error'], 'error')}, "
        f"{views.count(counts['warning'], 'warning')}"
    )
