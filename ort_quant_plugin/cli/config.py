"""``ort-quant config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import get_output

__all__ = ["command"]


@click.command("config")
@options.model_argument("Float ONNX model")
@click.option("-o", "--out", "config_file", metavar="FILE.json", required=True, help="Configuration to write.")
@click.option(
    "-c",
    "--config",
    "--calibration-config",
    "simple",
    metavar="FILE.cfg",
    help="Simplified configuration (.cfg) to expand.",
)
@click.option("--batch-num", type=click.IntRange(1), help="Batches calibration will use.  [default: 1]")
@click.option("--skip-layer", "skip_layers", metavar="NAME", multiple=True, help="Layer to leave float. Repeatable.")
@click.option("--symmetric", is_flag=True, help="Symmetric activations (offset 0) instead of asymmetric ones.")
@click.option("--updated-model", metavar="FILE", help="Also store the model with unique, non-empty node names.")
@options.op_library_option
@options.force_option
@options.json_option
def command(
    model: str, config_file: str, simple: str | None, updated_model: str | None, force: bool, **choices: Any
) -> None:
    """Write the JSON configuration of a model; edit it, then pass it to quantize or prepare."""
    import json

    from ort_quant_plugin.api import create_quant_config
    from ort_quant_plugin.cli.quantize import check_choices
    from ort_quant_plugin.model import refuse_existing

    check_choices({**choices, "simple": simple}, "simple")
    if simple is not None and choices["batch_num"] is not None:
        raise click.UsageError(
            "--batch-num has no effect beside a .cfg file: write it into the file.", click.get_current_context()
        )
    output = get_output()
    refuse_existing([Path(path) for path in (config_file, updated_model) if path is not None], force=force)
    create_quant_config(
        config_file,
        model,
        skip_layers=list(choices["skip_layers"]),
        batch_num=choices["batch_num"] or 1,
        activation_offset=not choices["symmetric"],
        config_defination=simple,
        updated_model=updated_model,
        op_libraries=choices["op_libraries"],
    )
    written = {"config": Path(config_file)} | ({"model": Path(updated_model)} if updated_model else {})
    layers = [
        value
        for value in json.loads(Path(config_file).read_text(encoding="utf-8")).values()
        if isinstance(value, dict) and value.get("quant_enable")
    ]
    document = {"outputs": {kind: str(path) for kind, path in written.items()}, "quantized_layers": len(layers)}
    parts = [f"{views.count(len(layers), 'layer')} will be quantized", "", views.file_table(output, written)]
    output.result(document, parts)
