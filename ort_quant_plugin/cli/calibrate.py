"""``ort-quant calibrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import get_output

if TYPE_CHECKING:
    from ort_quant_plugin.cli.options import DataSource

__all__ = ["command"]


@click.command("calibrate")
@options.model_argument("Calibration model from 'ort-quant prepare'")
@options.data_options
@options.op_library_option
@options.json_option
def command(model: str, source: DataSource | None, op_libraries: tuple[str, ...]) -> None:
    """Run a calibration model over data; its operators write the ranges into the record file."""
    from ort_quant_plugin.api import calibrate

    if source is None:
        raise click.UsageError("Missing option '--data'.", click.get_current_context())
    output = get_output()
    with output.progress() as progress:
        report = calibrate(
            model, source.data, progress=progress or False, op_libraries=op_libraries, **source.options(model)
        )
    line = f"Calibrated on {views.count(report.batches, 'batch')} in {report.seconds:.1f} s"
    output.result({"batches": report.batches, "seconds": report.seconds}, [line])
