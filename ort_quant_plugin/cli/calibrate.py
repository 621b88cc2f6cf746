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
@click.option(
    "--from-triton",
    "urls",
    metavar="URL",
    multiple=True,
    help="Take what a Triton server of this model has observed (http://host:port, grpc://host:port). Repeatable: "
    "one a server.",
)
@click.option("--triton-model", metavar="NAME[:VERSION]", help="The model's name there.  [default: its file's]")
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
    urls: tuple[str, ...],
    triton_model: str | None,
    workers: int,
    op_libraries: tuple[str, ...],
) -> None:
    """Run a calibration model over data and write the ranges into its record file.

    One pass serves any number of methods. The same command continues a run that was interrupted or killed.

    With --from-triton, servers have run the model already: their sketches are collected, and start anew there. Data,
    if any is given, is sent to them first. Kept sketches are used too, so that several calls add up.

    \b
    ort-quant calibrate modified.onnx --data photos/ --method ifmr,kld,mse --save-sketches
    ort-quant calibrate modified.onnx --from-triton grpc://host:8001 --triton-model net_calibration
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.api import default_sketch_file

    if save_sketches and sketches is None:
        sketches = str(default_sketch_file(model))
    if urls:
        if workers != 1 or op_libraries:
            raise click.UsageError(
                "--workers and --op-library have no effect with --from-triton: the model runs on the server.",
                click.get_current_context(),
            )
        _from_triton(model, urls, triton_model or Path(model).stem, source, methods, sketches)
        return
    if triton_model is not None:
        raise click.UsageError("--triton-model needs --from-triton.", click.get_current_context())
    if source is None:
        raise click.UsageError("Missing option '--data'.", click.get_current_context())
    _from_data(model, source, methods, sketches, workers, op_libraries)


def _from_data(
    model: str,
    source: DataSource,
    methods: tuple[str, ...],
    sketches: str | None,
    workers: int,
    op_libraries: tuple[str, ...],
) -> None:
    from ort_quant_plugin.api import calibrate

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
    yield ""
    yield _files(output, report.records, report.sketches)


def _files(output: Output, records: dict[str, Path], sketches: Path | None) -> RenderableType:
    files = {f"record {method}".strip(): path for method, path in records.items()}
    return views.file_table(output, files | ({"sketches": Path(sketches)} if sketches else {}))


def _from_triton(
    model: str,
    urls: tuple[str, ...],
    name: str,
    source: DataSource | None,
    methods: tuple[str, ...],
    sketches: str | None,
) -> None:
    from ort_quant_plugin.triton.collect import calibrate_from_triton
    from ort_quant_plugin.triton.served import split_model_name

    output = get_output()
    served, version = split_model_name(name)
    with output.progress() as progress:
        found = calibrate_from_triton(
            model,
            urls,
            served,
            version=version,
            data=source.data if source is not None else None,
            data_options=source.options(model) if source is not None else None,
            method=methods or None,
            sketches=sketches,
            progress=progress,
        )
    document = {
        "servers": list(urls),
        "collections": found.collections,
        "values": found.values,
        "records": {method: str(path) for method, path in found.records.items()},
        "sketches": str(found.sketches) if found.sketches else None,
    }
    text = (
        f"Calibrated on {views.count(found.collections, 'collection')} from {views.count(len(urls), 'server')}, "
        f"up to {found.values} values a tensor"
    )
    output.result(document, [text, "", _files(output, found.records, found.sketches)])
