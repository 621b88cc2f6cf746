"""``ort-quant gate``: each subcommand is imported when it runs."""

from __future__ import annotations

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.lazy_group import LazyGroup

__all__ = ["SUBCOMMANDS", "command"]

SUBCOMMANDS = {
    "run": "Measure and judge the gates of a file.",
    "recheck": "Judge saved measurements again, with other thresholds and without inference.",
    "report": "Turn a saved report into text, Markdown, HTML or annotations.",
}


@click.group("gate", cls=LazyGroup, subcommands=SUBCOMMANDS)
@options.output_options
def command() -> None:
    """Accuracy gates: fail a build when an int8 model loses more than it may. The pytest plugin has the same engine."""
