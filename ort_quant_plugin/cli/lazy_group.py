"""A verb with subcommands, each imported when it runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """The subcommands in the order of the work.

    Args:
        subcommands: Subcommand → one line for the listing; the module ``cli/<verb>_<name>.py`` is imported only when
            it runs.
    """

    def __init__(self, *args: Any, subcommands: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.subcommands = subcommands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return list(self.subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand."""
        if cmd_name not in self.subcommands:
            return None
        command: click.Command = importlib.import_module(f"ort_quant_plugin.cli.{self.name}_{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.subcommands.items()))
