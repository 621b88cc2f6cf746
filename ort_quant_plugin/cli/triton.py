"""``ort-quant triton``: each subcommand is imported when it runs."""

from __future__ import annotations

import importlib

import click

from ort_quant_plugin.cli import options

__all__ = ["SUBCOMMANDS", "command"]

# Subcommand → one line for the listing; the module cli/triton_<name>.py is imported only when it runs.
SUBCOMMANDS = {
    "new": "Write a model repository for a model: configuration, versions, library.",
    "validate": "Check a repository: files, configurations, library; with --server also what is served.",
    "serve": "Run a development server on a repository.",
    "bench": "Measure throughput and latency of served models.",
}


class TritonGroup(click.Group):
    """The subcommands in the order of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        if cmd_name not in SUBCOMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ort_quant_plugin.cli.triton_{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group("triton", cls=TritonGroup)
@options.output_options
def command() -> None:
    """Serve models with Triton Inference Server: write a repository, check it, run it, measure it."""
