"""``ort-quant inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, get_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ort_quant_plugin.report import InspectReport

__all__ = ["command"]


@click.command("inspect")
@options.model_argument("Float, calibration or quantized ONNX model")
@click.option("-c", "--config", metavar="FILE", help="Configuration that decides what would be quantized.")
@click.option("--record", metavar="FILE.txt", help="Record file with the scales.")
@click.option(
    "--explain", is_flag=True, help="Also list what graph preparation did and declined, and the other operators."
)
@options.op_library_option
@options.json_option
def command(model: str, config: str | None, record: str | None, explain: bool, op_libraries: tuple[str, ...]) -> None:
    """List the layers of a model: type, quantized or why not, scale, offset, weight granularity."""
    from ort_quant_plugin.api import inspect

    output = get_output()
    report = inspect(model, config=config, record=record, op_libraries=op_libraries)
    for note in report.notes:
        output.note(note)
    output.result(report.to_dict(), _parts(output, model, report, explain=explain or output.settings.verbose > 0))


def _parts(output: Output, model: str, report: InspectReport, *, explain: bool) -> Iterator[RenderableType]:
    verb = "can be quantized" if report.kind == "float" else "quantized"
    summary = views.layer_summary(report.layers).replace("quantized", verb, 1)
    yield f"{model}: {report.kind} model, opset {report.opset}; {summary}"
    if report.layers:
        yield ""
        yield views.layer_table(output, report.layers)
    if explain:
        yield from views.pass_lines(output, report.passes)
        if report.other_operators:
            names = ", ".join(f"{name} x{number}" for name, number in sorted(report.other_operators.items()))
            yield f"\nOther operators: {names}"
