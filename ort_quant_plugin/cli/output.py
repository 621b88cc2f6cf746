"""What the command line prints: the result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text

    from ort_quant_plugin.progress import Progress, ProgressEvent

__all__ = ["EXIT_PIPE", "Output", "Settings", "file_size", "get_output", "print_error", "stylize"]

EXIT_PIPE = 141
"""128 + SIGPIPE: what a shell reports for a command whose reader has gone."""
_PIPE_WIDTH = 160
_PLAIN_STEPS = 10


@dataclass
class Settings:
    """What the global options say.

    Attributes:
        json: Print one JSON document instead of tables.
        quiet: Print no notes and no progress.
        verbose: 1 also prints details, 2 also the log of the package.
        color: Whether colours are allowed (``--no-color``; ``NO_COLOR`` is honoured too).
        debug: Show tracebacks.
        arguments: The command line, as given.
    """

    json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: bool = True
    debug: bool = False
    arguments: Sequence[str] = ()


def get_output() -> Output:
    """Return the output of the running command."""
    context = click.get_current_context()
    return Output(context.find_root().ensure_object(Settings), context.command_path.split(" ", 1)[-1].replace(" ", "-"))


class Output:
    """Printer of one command.

    Args:
        settings: The global options.
        verb: The command, for the JSON schema name.
    """

    def __init__(self, settings: Settings, verb: str = "") -> None:
        self.settings = settings
        self.verb = verb

    @property
    def stdout(self) -> Console:
        """Console for results; wide when it is a pipe, so that nothing is cut for a reader that is no terminal."""
        return _console(self.settings, stderr=False)

    @property
    def stderr(self) -> Console:
        """Console for everything else."""
        return _console(self.settings, stderr=True)

    def result(self, document: Mapping[str, Any], parts: Iterable[RenderableType]) -> None:
        """Print the result: ``parts`` for people, or ``document`` with its schema name under ``--json``."""
        if self.settings.json:
            whole = {"schema": f"ort-quant/{self.verb}/1", **document}
            click.echo(json.dumps(_json_safe(whole), indent=2, allow_nan=False, ensure_ascii=False))
            return
        _print(self.stdout, parts)

    def log(self, parts: Iterable[RenderableType]) -> None:
        """Print ``parts`` for people on stderr, where stdout is for something else; silent with ``--quiet``."""
        if not self.settings.quiet:
            _print(self.stderr, parts)

    def note(self, text: str) -> None:
        """Say something the user may want to know; silent with ``--quiet``."""
        if not self.settings.quiet:
            self.stderr.print(stylize("note: ", "cyan").append(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Say something the user should know."""
        self.stderr.print(stylize("warning: ", "yellow").append(text), soft_wrap=True)

    def table(self, columns: Sequence[str | tuple[str, str]], rows: Iterable[Sequence[str | Text]]) -> RenderableType:
        """Make a table.

        Args:
            columns: Headings; ``(heading, "right")`` aligns numbers, ``(heading, "wrap")`` takes long text.
            rows: Cells.
        """
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", collapse_padding=True)
        for column in columns:
            heading, kind = (column, "left") if isinstance(column, str) else column
            table.add_column(
                heading,
                justify="right" if kind == "right" else "left",
                no_wrap=kind == "right",
                overflow="fold",
                min_width=len(heading),  # or a narrow terminal squeezes names away beside numbers
            )
        for row in rows:
            table.add_row(*row)
        return table

    @contextmanager
    def progress(self) -> Iterator[Progress | None]:
        """Yield a progress callback: a bar on a terminal, else a line every few batches; none if quiet or JSON."""
        if self.settings.quiet or self.settings.json:
            yield None
            return
        console = self.stderr
        if not console.is_terminal:
            yield _plain_progress(console)
            return
        from ort_quant_plugin.progress import bar_updates, progress_bar

        with progress_bar(console) as bar:
            yield bar_updates(bar)


def _print(console: Console, parts: Iterable[RenderableType]) -> None:
    from rich.text import Text

    for part in parts:
        console.print(part, soft_wrap=isinstance(part, (str, Text)))


def _plain_progress(console: Console) -> Callable[[ProgressEvent], None]:
    def show(event: ProgressEvent) -> None:
        step = max(1, (event.total or 0) // _PLAIN_STEPS)
        if event.done % step == 0 or event.done == event.total:
            total = "" if event.total is None else f"/{event.total}"
            console.print(f"{event.stage}: {event.unit} {event.done}{total}", soft_wrap=True)

    return show


def print_error(settings: Settings, message: str, hint: str | None) -> None:
    """Print the two lines every failure ends in."""
    console = _console(settings, stderr=True)
    console.print(stylize("error: ", "bold red").append(message), soft_wrap=True)
    if hint:
        console.print(stylize("hint: ", "bold cyan").append(hint), soft_wrap=True)


def stylize(text: str, style: str) -> Text:
    """Make styled text; names from models are never read as markup."""
    from rich.text import Text

    return Text.assemble((text, style))


def _console(settings: Settings, *, stderr: bool) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            """Stop as a pipeline expects; rich and click would exit with 1, which means "finding" here."""
            close_broken_pipe()
            raise SystemExit(EXIT_PIPE)

    console = PipeConsole(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        no_color=not settings.color or bool(os.environ.get("NO_COLOR")) or None,
        force_terminal=None if settings.color else False,
    )
    if not stderr and not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


def file_size(path: Path) -> str:
    """Write a file's size for people: ``12.3 MB`` (10⁶ bytes)."""
    size = path.stat().st_size
    if size >= 1e6:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.1f} kB"


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


class LogHandler(logging.Handler):
    """Shows the package's log records on stderr in the command line's own form."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        output = Output(self.settings)
        if record.exc_info and self.settings.debug:
            traceback.print_exception(*record.exc_info)
        if record.levelno >= logging.WARNING:
            output.warn(record.getMessage())
        else:
            output.note(record.getMessage())


@contextmanager
def logging_to_stderr(settings: Settings) -> Iterator[None]:
    """Show warnings of the package (with ``-vv`` its information, with ``--debug`` all) while a command runs.

    Where ``AMCT_LOG_LEVEL`` is set the package's own console handler does it, in AMCT's format.
    """
    logger = logging.getLogger("ort_quant_plugin")
    if os.environ.get("AMCT_LOG_LEVEL"):
        yield
        return
    handler, level, propagate = LogHandler(settings), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if settings.debug else logging.INFO if settings.verbose > 1 else logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def close_broken_pipe() -> None:
    """Keep Python from complaining when the reader of stdout (``| head``) has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
