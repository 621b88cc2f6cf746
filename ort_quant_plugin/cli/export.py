"""``ort-quant export``."""

from __future__ import annotations

from typing import Any

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.output import get_output

__all__ = ["command"]


@click.command("export")
@options.model_argument("Calibration model from 'ort-quant prepare'")
@click.option("--record", metavar="FILE.txt", required=True, help="Its record file, filled in by calibration.")
@click.option(
    "-o",
    "--out",
    "--save-path",
    "save_path",
    metavar="PREFIX",
    required=True,
    help="Folder and file-name prefix of the results.",
)
@options.export_options
@options.op_library_option
@options.force_option
@options.json_option
def command(model: str, record: str, save_path: str, targets: tuple[str, ...], force: bool, **choices: Any) -> None:
    """Write the quantized models."""
    from ort_quant_plugin.api import DEFAULT_TARGETS, save_model
    from ort_quant_plugin.cli.quantize import summary
    from ort_quant_plugin.export.write import output_paths, select_exporters
    from ort_quant_plugin.model import refuse_existing
    from ort_quant_plugin.plugins import build_plugin_manager

    output = get_output()
    wanted = targets or DEFAULT_TARGETS
    exporters = select_exporters(build_plugin_manager().exporters(), wanted)
    refuse_existing(list(output_paths(save_path, exporters).values()), force=force)
    report = save_model(model, record, save_path, targets=wanted, **choices)
    for remark in report.notes:
        output.note(remark)
    output.result(report.to_dict(), summary(output, report))
