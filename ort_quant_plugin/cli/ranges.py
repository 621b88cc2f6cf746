"""``ort-quant ranges``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, get_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ort_quant_plugin.calibration.ranges import MethodRange, RangesReport, TensorRanges

__all__ = ["command"]


@click.command("ranges")
@click.argument("sketches", metavar="SKETCHES")
@options.methods_option("Methods to show, separated by commas.  [default: all]")
@click.option("--tensor", "tensors", metavar="NAME", multiple=True, help="Tensor or layer to show. Repeatable.")
@click.option("--bits", type=click.Choice(["4", "8", "16"]), default="8", show_default=True, help="Width of integers.")
@click.option("--symmetric", is_flag=True, help="Offset 0.")
@click.option("--unsigned-symmetric", is_flag=True, help="Symmetric, but data without negative values gets all codes.")
@click.option("--strict-symmetric", is_flag=True, help="Symmetric, without the lowest code.")
@click.option("--reduce-range", is_flag=True, help="One bit less, for CPUs whose 8-bit products saturate.")
@click.option("--plot", metavar="DIR", help="Also write a histogram PNG per tensor with the ranges drawn in.")
@options.json_option
def command(
    *,
    sketches: str,
    methods: tuple[str, ...],
    tensors: tuple[str, ...],
    bits: str,
    symmetric: bool,
    unsigned_symmetric: bool,
    strict_symmetric: bool,
    reduce_range: bool,
    plot: str | None,
) -> None:
    """Show what each calibration method chooses for each tensor, from saved sketches: no model, no data.

    \b
    ort-quant ranges net.sketches --method ifmr,kld,mse --plot histograms/
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.calibration.methods import Grid
    from ort_quant_plugin.calibration.ranges import ranges

    output = get_output()
    if (unsigned_symmetric or strict_symmetric) and not symmetric:
        raise click.UsageError(
            "--unsigned-symmetric and --strict-symmetric need --symmetric.", click.get_current_context()
        )
    grid = Grid(
        int(bits),
        symmetric,
        unsigned_symmetric=unsigned_symmetric,
        strict_symmetric=strict_symmetric,
        reduce_range=reduce_range,
    )
    report = ranges(sketches, methods=methods or None, tensors=tensors, grid=grid)
    if not report.complete:
        output.note(f"{sketches} is a checkpoint of a run that is not finished: {report.batches} batches so far.")
    plots = _plots(report, sketches, plot)
    document = report.to_dict() | ({"plots": {name: str(path) for name, path in plots.items()}} if plot else {})
    output.result(document, _parts(output, report, plots, plot))


def _plots(report: RangesReport, sketches: str, folder: str | None) -> dict[str, Path]:
    if folder is None:
        return {}
    from ort_quant_plugin.calibration.plots import plot_ranges
    from ort_quant_plugin.calibration.sketch_file import SketchFile

    return plot_ranges(report, SketchFile.read(Path(sketches)).sketches, folder)


def _parts(
    output: Output, report: RangesReport, plots: dict[str, Path], folder: str | None
) -> Iterator[RenderableType]:
    yield f"{views.count(len(report.tensors), 'tensor')}, {views.count(report.batches, 'batch')}"
    for tensor in report.tensors:
        yield ""
        yield _title(tensor)
        yield output.table(
            ["Method", *((name, "right") for name in ("Low", "High", "Scale", "Offset", "Clipped", "SQNR dB"))],
            [_row(found) for found in tensor.ranges],
        )
        for found in tensor.ranges:
            if found.reason:
                yield f"{found.method}: {found.reason}"
    if folder is not None:
        yield f"\n{views.count(len(plots), 'histogram')} in {folder}"


def _title(tensor: TensorRanges) -> str:
    layers = f"  ({', '.join(tensor.layers)})" if tensor.layers else ""
    values = f"{views.count(tensor.count, 'value')} in [{tensor.minimum:.6g}, {tensor.maximum:.6g}]"
    zeros = f", {100 * tensor.zeros:.1f} % zeros" if tensor.zeros else ""
    return f"{tensor.tensor}{layers}: {values}{zeros}" if tensor.count else f"{tensor.tensor}{layers}: no values"


def _row(found: MethodRange) -> list[str]:
    if math.isnan(found.scale):
        return [found.method, "-", "-", "-", "-", "-", "-"]
    return [
        found.method,
        f"{found.low:.6g}",
        f"{found.high:.6g}",
        f"{found.scale:.7g}",
        str(found.offset),
        f"{100 * found.clipped:.4f} %",
        views.decibel(found.sqnr_db),
    ]
