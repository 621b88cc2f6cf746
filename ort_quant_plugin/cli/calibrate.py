"""``ort-quant calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, get_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ort_quant_plugin.calibration.runner import CalibrationReport
    from ort_quant_plugin.cli.options import DataSource

__all__ = ["command"]


@click.command("calibrate")
@options.model_argument("Calibration model from 'ort-quant prepare'")
@options.data_options
@options.methods_option(
    "Method for all tensors; several, separated by commas, write a record file each.  [default: the model's own]"
)
@click.option(
    "--save-sketches",
    is_flag=True,
    help="Keep the sketches beside the record: the next call, with any method, needs no inference.",
)
@click.option("--sketches", metavar="FILE", help="Keep the sketches in this file.")
@options.workers_option
@options.op_library_option
@options.json_option
def command(
    *,
    model: str,
    source: DataSource | None,
    methods: tuple[str, ...],
    save_sketches: bool,
    sketches: str | None,
    workers: int,
    op_libraries: tuple[str, ...],
) -> None:
    """Run a calibration model over data and write the ranges into its record file.

    One pass serves any number of methods. The same command continues a run that was interrupted or killed.

    \b
    ort-quant calibrate modified.onnx --data photos/ --method ifmr,kld,mse --save-sketches
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.api import calibrate, default_sketch_file

    if source is None:
        raise click.UsageError("Missing option '--data'.", click.get_current_context())
    if save_sketches and sketches is None:
        sketches = str(default_sketch_file(model))
    output = get_output()
    with output.progress() as progress:
        report = calibrate(
            model,
            source.data,
            method=methods or None,
            sketches=sketches,
            workers=workers,
            progress=progress or False,
            op_libraries=op_libraries,
            **source.options(model),
        )
    document = {
        "batches": report.batches,
        "resumed": report.resumed,
        "seconds": report.seconds,
        "records": {method: str(path) for method, path in report.records.items()},
        "sketches": str(report.sketches) if report.sketches else None,
    }
    output.result(document, _parts(output, report))


def _parts(output: Output, report: CalibrationReport) -> Iterator[RenderableType]:
    resumed = f" ({report.resumed} of them by an earlier run)" if report.resumed else ""
    yield f"Calibrated on {views.count(report.batches, 'batch')}{resumed} in {report.seconds:.1f} s"
    files = {f"record {method}".strip(): path for method, path in report.records.items()}
    files |= {"sketches": Path(report.sketches)} if report.sketches else {}
    yield ""
    yield views.file_table(output, files)
