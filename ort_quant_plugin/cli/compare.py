"""``ort-quant compare``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.main import EXIT_FINDING
from ort_quant_plugin.cli.output import Output, get_output, stylize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from ort_quant_plugin.cli.options import DataSource
    from ort_quant_plugin.comparison import CandidateReport, ComparisonReport

__all__ = ["command"]


@click.command("compare")
@click.argument("reference", metavar="FLOAT")
@click.argument("candidates", metavar="QUANTIZED...", nargs=-1, required=True)
@options.data_options
@click.option(
    "--labels", metavar="FILE", help="True classes: .csv (file,class_index) or .npy in the order of the data."
)
@click.option("--limit", type=click.IntRange(1), help="Use only the first batches.")
@click.option("--layers", is_flag=True, help="Also compare every quantized layer, worst first.")
@click.option(
    "--worst", type=click.IntRange(1), default=20, show_default=True, help="Layers to show with --layers; -v shows all."
)
@click.option("--min-cosine", type=float, help="Fail (exit code 1) when an output's cosine is lower.")
@click.option("--min-agreement", type=float, metavar="SHARE", help="Fail when the top-1 agreement is lower (0..1).")
@click.option(
    "--max-drop", type=float, metavar="SHARE", help="Fail when top-1 falls by more against the float model (0..1)."
)
@options.op_library_option
@options.json_option
def command(
    *,
    reference: str,
    candidates: tuple[str, ...],
    source: DataSource | None,
    labels: str | None,
    limit: int | None,
    layers: bool,
    worst: int,
    op_libraries: tuple[str, ...],
    **thresholds: float | None,
) -> None:
    """Run a float model and quantized models over data: cosine, SQNR, maximum error, agreement, accuracy.

    \b
    ort-quant compare net.onnx out/net_fake_quant_model.onnx out/net_qdq_model.onnx --data photos/ --layers
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.calibration.data import open_data
    from ort_quant_plugin.comparison import compare
    from ort_quant_plugin.labels import read_labels
    from ort_quant_plugin.metrics import BUILTIN_METRICS
    from ort_quant_plugin.model import input_specs, read_model
    from ort_quant_plugin.plugins import build_plugin_manager

    if source is None:
        raise click.UsageError("Missing option '--data'.", click.get_current_context())
    if thresholds["max_drop"] is not None and labels is None:
        raise click.UsageError("--max-drop needs --labels.", click.get_current_context())
    output = get_output()
    data = open_data(source.data, input_specs(read_model(reference)), limit=limit, **source.options(reference))
    for note in getattr(data, "notes", ()):
        output.note(note)
    metrics = build_plugin_manager().metrics()
    with output.progress() as progress:
        report = compare(
            reference,
            candidates,
            data,
            labels=read_labels(labels, data) if labels is not None else None,
            layers=layers,
            metrics={name: metrics[name] for name in metrics if name not in BUILTIN_METRICS},
            progress=progress,
            op_libraries=op_libraries,
        )
    findings = _findings(report, **thresholds)
    judged = any(value is not None for value in thresholds.values())
    verdict = {"verdict": ("failed" if findings else "passed") if judged else None, "findings": findings}
    output.result({**report.to_dict(), **verdict}, _parts(output, report, worst, findings, judged=judged))
    if findings:
        click.get_current_context().exit(EXIT_FINDING)


def _findings(
    report: ComparisonReport, min_cosine: float | None, min_agreement: float | None, max_drop: float | None
) -> list[str]:
    found = []
    for candidate in report.candidates:
        for item in candidate.outputs:
            where = f"{candidate.path}, output {item.name}"
            if min_cosine is not None and not item.error.cosine >= min_cosine:
                found.append(f"{where}: cosine {item.error.cosine:.6f} is below {min_cosine:g}")
            if min_agreement is not None and item.agreement is not None and item.agreement < min_agreement:
                found.append(f"{where}: agreement {item.agreement:.4f} is below {min_agreement:g}")
        if max_drop is not None and candidate.accuracy is not None and report.accuracy is not None:
            drop = report.accuracy.top1 - candidate.accuracy.top1
            if drop > max_drop:
                found.append(f"{candidate.path}: top-1 falls by {drop:.4f}, more than {max_drop:g}")
    return found


def _parts(
    output: Output, report: ComparisonReport, worst: int, findings: Sequence[str], *, judged: bool
) -> Iterator[RenderableType]:
    yield f"{report.reference} on {views.count(report.samples, 'sample')} in {views.count(report.batches, 'batch')}"
    yield ""
    yield _output_table(output, report)
    if report.accuracy is not None:
        yield ""
        yield _accuracy_table(output, report)
    for candidate in report.candidates:
        yield from _layer_parts(output, candidate, worst)
    if judged:
        yield ""
        for finding in findings:
            yield f"- {finding}"
        word = stylize("FAILED", "bold red") if findings else stylize("PASSED", "bold green")
        yield word.append(f" in {report.seconds:.1f} s: ort-quant {shlex.join(output.settings.arguments)}")


def _output_table(output: Output, report: ComparisonReport) -> RenderableType:
    further = list(dict.fromkeys(name for c in report.candidates for o in c.outputs for name in o.metrics))
    columns: list[str | tuple[str, str]] = [
        "Model", "Output", ("Cosine", "right"), ("SQNR dB", "right"), ("Max error", "right"), ("Agreement", "right"),
        *((name, "right") for name in further),
    ]  # fmt: skip
    rows = [
        [
            candidate.path.name,
            item.name,
            *views.error_cells(item.error),
            views.percent(item.agreement),
            *(f"{item.metrics[name]:.4g}" for name in further),
        ]
        for candidate in report.candidates
        for item in candidate.outputs
    ]
    return output.table(columns, rows)


def _accuracy_table(output: Output, report: ComparisonReport) -> RenderableType:
    assert report.accuracy is not None
    entries: list[tuple[str, Any]] = [(report.reference.name, report.accuracy)]
    entries += [(candidate.path.name, candidate.accuracy) for candidate in report.candidates]
    rows = [
        [
            name,
            views.percent(accuracy.top1),
            views.percent(accuracy.top5),
            f"{accuracy.hits1}/{accuracy.samples}",
            f"{100 * (accuracy.top1 - report.accuracy.top1):+.2f}",
        ]
        for name, accuracy in entries
    ]
    return output.table(["Model", ("Top-1", "right"), ("Top-5", "right"), ("Hits", "right"), ("Change", "right")], rows)


def _layer_parts(output: Output, candidate: CandidateReport, worst: int) -> Iterator[RenderableType]:
    shown = candidate.layers if output.settings.verbose else candidate.layers[:worst]
    if shown:
        rest = f", the worst {len(shown)} of {len(candidate.layers)}" if len(shown) < len(candidate.layers) else ""
        yield f"\nLayers of {(candidate.layers_of or candidate.path).name}, worst first{rest}"
        yield ""
        rows = [[layer.name, layer.op_type, *views.error_cells(layer.error)] for layer in shown]
        yield output.table(["Layer", "Type", ("Cosine", "right"), ("SQNR dB", "right"), ("Max error", "right")], rows)
    if candidate.unmatched:
        yield f"Not in the float model: {', '.join(candidate.unmatched)}"
