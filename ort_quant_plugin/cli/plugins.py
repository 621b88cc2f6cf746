"""``ort-quant plugins``."""

from __future__ import annotations

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.output import get_output, stylize

__all__ = ["command"]


@click.command("plugins")
@click.option("--strict", is_flag=True, help="Fail (exit code 2) when a plugin is broken, instead of listing it so.")
@options.json_option
def command(strict: bool) -> None:
    """List the plugins in use and what each registers; ORT_QUANT_PLUGINS chooses among installed ones."""
    from ort_quant_plugin.plugins import build_plugin_manager

    output = get_output()
    plugins = build_plugin_manager(strict=strict).describe()
    rows = []
    for plugin in plugins:
        origin = " ".join(part for part in (plugin["distribution"], plugin["version"]) if part)
        error = plugin["error"]
        adds = stylize("broken: ", "red").append(str(error)) if error else _registered(plugin["registered"])
        rows.append([plugin["name"], origin or "-", adds])
    output.result({"plugins": plugins}, [output.table(["Plugin", "From", "Adds"], rows)])


def _registered(registered: dict[str, list[str]]) -> str:
    return (
        "\n".join(f"{kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in registered.items()) or "hooks only"
    )
