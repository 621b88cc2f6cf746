"""What the verbs of ``ort-quant gate`` share: their output options, and how a report is shown and judged."""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ort_quant_plugin.cli.main import EXIT_FINDING
from ort_quant_plugin.cli.output import Output, get_output, stylize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType
    from rich.text import Text

    from ort_quant_plugin.gates.report import GateReport

__all__ = ["FORMATS", "Presentation", "baseline_dir_option", "parts", "rendered", "result_options"]

FORMATS = ("text", "markdown", "html", "github", "gitlab")
"""Forms of a report; ``github``: workflow commands, ``gitlab``: Code Quality JSON."""

_STYLES = {"passed": "green", "failed": "bold red", "error": "bold red", "not run": "yellow"}


@dataclass(frozen=True)
class Presentation:
    """What the options say about the result.

    Attributes:
        reports: Files to write the report to.
        style: What stdout gets, one of ``FORMATS``.
        exit_zero: Exit with 0 whatever was found.
        require_all: Gates that did not run are findings.
    """

    reports: tuple[str, ...]
    style: str
    exit_zero: bool
    require_all: bool

    def check(self) -> None:
        """Find out before inference that a report could not be written.

        Raises:
            ConfigError: A suffix stands for no kind of report.
            OutputError: A folder cannot be written.
        """
        from ort_quant_plugin.files import check_writable
        from ort_quant_plugin.gates.report import report_format

        if get_output().settings.json and self.style != "text":
            raise click.UsageError("--json and --format are both given.", click.get_current_context())
        for path in self.reports:
            report_format(path)
            check_writable(Path(path).parent)

    def show(self, report: GateReport, *, source: str | None = None) -> int:
        """Write the files, print the report; return the exit code.

        Text goes to stdout; another form takes stdout for itself, and the text goes to stderr for the log's reader.

        Args:
            report: The report.
            source: The file it was read from, for the command that judges it again; default: the one it is written to.
        """
        from ort_quant_plugin.gates.report import report_format, write_report

        output = get_output()
        source = source or next((path for path in self.reports if report_format(path) == "json"), None)
        for path in self.reports:
            write_report(path, report, source=source)
        found = bool(report.failed or not report.passed or (self.require_all and report.not_run))
        text = self._parts(output, report, source, found=found)
        if self.style == "text":
            output.result(report.to_dict(), text)
        else:
            click.echo(rendered(report, self.style, source), nl=False)
            output.log(text)
        return EXIT_FINDING if found and not self.exit_zero else 0

    def _parts(
        self, output: Output, report: GateReport, source: str | None, *, found: bool
    ) -> Iterator[RenderableType]:
        yield from parts(output, report, source)
        if self.reports:
            yield f"Written: {', '.join(self.reports)}"
        if not (report.passed or report.failed):
            yield "No gate was judged, so none has passed."
        word = stylize("FAILED", "bold red") if found else stylize("PASSED", "bold green")
        yield word.append(f" in {report.seconds:.1f} s: ort-quant {shlex.join(output.settings.arguments)}")


def result_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--report, --format, --require-all, --exit-zero; the function receives ``presentation``."""

    @functools.wraps(function)
    def wrapper(
        *args: Any, reports: tuple[str, ...], style: str, exit_zero: bool, require_all: bool, **kwargs: Any
    ) -> Any:
        return function(*args, presentation=Presentation(reports, style, exit_zero, require_all), **kwargs)

    decorators = (
        click.option(
            "--report", "reports", metavar="FILE", multiple=True,
            help="Write a report: .json (all that was measured), .md (a comment) or .html. Repeatable.",
        ),
        format_option("What stdout gets; unless it is text, the text goes to stderr."),
        click.option("--require-all", is_flag=True, help="A gate that did not run is a finding too (exit code 1)."),
        click.option("--exit-zero", is_flag=True, help="Exit with 0 even when a gate failed."),
    )  # fmt: skip
    for decorator in reversed(decorators):
        wrapper = decorator(wrapper)
    return wrapper


def format_option(text: str) -> Callable[[Any], Any]:
    """--format; the function receives ``style``."""
    return click.option("--format", "style", type=click.Choice(FORMATS), default="text", show_default=True, help=text)


def baseline_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--baseline-dir."""
    return click.option(
        "--baseline-dir", metavar="DIR", help="Folder of the baselines.  [default: what the gates file says]"
    )(function)


def rendered(report: GateReport, style: str, source: str | None) -> str:
    """The report in one of ``FORMATS``, as the text of a file; ``source`` as for :meth:`Presentation.show`."""
    from ort_quant_plugin.gates.render import annotations, html, markdown

    forms: dict[str, Callable[[], str]] = {
        "text": lambda: "\n\n".join(_plain(report, source)),
        "markdown": lambda: markdown.markdown(report, path=source),
        "html": lambda: html.html(report, path=source),
        "github": lambda: annotations.github(report, path=source),
        "gitlab": lambda: annotations.gitlab(report),
    }
    text = forms[style]()
    return text if not text or text.endswith("\n") else text + "\n"


def parts(output: Output, report: GateReport, source: str | None) -> Iterator[RenderableType]:
    """The report for a terminal: the table, worst first, then what there is to say about each gate that failed."""
    from ort_quant_plugin.gates.render.cells import NUMBER_COLUMNS, SUMMARY_HEAD, count_line, summary_rows

    rows: list[list[str | Text]] = [
        [*cells[:-1], stylize(cells[-1], _STYLES[result.status])]
        for cells, result in zip(summary_rows(report), report.worst_first, strict=True)
    ]
    yield output.table([(name, "right") if name in NUMBER_COLUMNS else name for name in SUMMARY_HEAD], rows)
    for text in _explained(report, source):
        yield ""
        yield text
    yield ""
    yield count_line(report)


def _plain(report: GateReport, source: str | None) -> list[str]:
    from ort_quant_plugin.gates.render.text import summary_table

    return [summary_table(report), *_explained(report, source)]


def _explained(report: GateReport, source: str | None) -> list[str]:
    from ort_quant_plugin.gates.render.text import failure_text

    failed = [result for result in report.worst_first if result.status in {"failed", "error"}]
    return [failure_text(result, report=source) for result in failed]
