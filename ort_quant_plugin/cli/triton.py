"""``ort-quant triton``: each subcommand is imported when it runs."""

from __future__ import annotations

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.lazy_group import LazyGroup

__all__ = ["SUBCOMMANDS", "command"]

SUBCOMMANDS = {
    "new": "Write a model repository for a model: configuration, versions, library.",
    "validate": "Check a repository: files, configurations, library; with --server also what is served.",
    "serve": "Run a development server on a repository.",
    "bench": "Measure throughput and latency of served models.",
}


@click.group("triton", cls=LazyGroup, subcommands=SUBCOMMANDS)
@options.output_options
def command() -> None:
    """Serve models with Triton Inference Server: write a repository, check it, run it, measure it."""
