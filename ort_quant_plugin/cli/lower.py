"""``ort-quant lower``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, get_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ort_quant_plugin.lowering import LoweringReport

__all__ = ["command"]


@click.command("lower")
@options.model_argument("Deploy model, from this package or from AMCT")
@click.option(
    "-o",
    "--out",
    "out",
    metavar="FILE.onnx",
    help="Model to write.  [default: '_ort_model' for '_deploy_model' in the name]",
)
@options.op_library_option
@options.force_option
@options.json_option
def command(model: str, out: str | None, op_libraries: tuple[str, ...], force: bool) -> None:
    """Turn a deploy model into an int8 model that ONNX Runtime runs fast on a CPU, with our operators."""
    from ort_quant_plugin.api import lower_model

    output = get_output()
    report = lower_model(model, out, force=force, op_libraries=op_libraries)
    for note in report.notes:
        output.note(note)
    output.result(report.to_dict(), _parts(output, report))


def _parts(output: Output, report: LoweringReport) -> Iterator[RenderableType]:
    yield f"{report.summary()}."
    if output.settings.verbose:
        rows = [
            [layer.name, layer.op_type, layer.operator, ", ".join(layer.fused), layer.reason or ""]
            for layer in report.layers
        ]
        yield ""
        yield output.table(["Layer", "Type", "Operator", ("Fused", "wrap"), ("Float because", "wrap")], rows)
        others = ", ".join(f"{name} x{number}" for name, number in report.operators.items())
        yield f"\nOperators: {others}"
    elif report.stayed_float:
        yield ""
        rows = [[name, reason] for name, reason in report.stayed_float.items()]
        yield output.table(["Float", ("Why", "wrap")], rows)
    if report.output is not None:
        yield ""
        yield views.file_table(output, {"ort": report.output})
