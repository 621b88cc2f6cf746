"""``ort-quant ops``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.output import get_output
from ort_quant_plugin.ops.catalogue import OPERATORS

__all__ = ["command"]


@click.group("ops", invoke_without_command=True)
@options.json_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the custom-op library: path, version, what it needs, instruction set, operators."""
    if ctx.invoked_subcommand is not None:
        return
    output = get_output()
    facts = _facts()
    ops = [{"domain": domain, "op": name, "purpose": purpose} for domain, name, purpose in OPERATORS]
    rows = [[label.replace("_", " "), str(value)] for label, value in facts.items()]
    parts = [output.table(["Library", ""], rows), "", output.table(["Domain", "Operator", "Purpose"], OPERATORS)]
    output.result({**facts, "ops": ops}, parts)


@command.command("path")
@click.option("--deploy", is_flag=True, help="The library that runs untouched deploy models.")
@options.json_option
def show_path(*, deploy: bool) -> None:
    """Print the path of the library, for hosts other than Python."""
    from ort_quant_plugin.ops.library import get_library_path

    path = get_library_path(deploy=deploy)
    get_output().result({"path": path}, [path])


@command.command("check")
@options.json_option
def check() -> None:
    """Load the library into the installed ONNX Runtime and run every operator's registration."""
    from ort_quant_plugin.ops.library import onnxruntime_module, session_options

    session_options()
    facts = _facts() | {"onnxruntime": onnxruntime_module().__version__}
    get_output().result(
        {**facts, "loads": True},
        [f"ONNX Runtime {facts['onnxruntime']} loads {facts['path']} ({facts['instruction_set']})"],
    )


def _facts() -> dict[str, Any]:
    from ort_quant_plugin import __version__
    from ort_quant_plugin.ops.library import get_library_path

    path = get_library_path()
    return {
        "path": path,
        "version": __version__,
        "size_bytes": Path(path).stat().st_size,
        "needs": "ONNX Runtime 1.17 or newer (API 17)",
        "instruction_set": _instruction_set(),
    }


def _instruction_set() -> str:
    from ort_quant_plugin.ops.instruction_sets import FORCING_VARIABLE, instruction_sets

    forced = os.environ.get(FORCING_VARIABLE)
    if forced:
        return f"{forced} (forced by {FORCING_VARIABLE})"
    names = instruction_sets()
    return f"{names[-1]} (of {', '.join(names)})" if names else "unknown"
