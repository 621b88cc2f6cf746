"""``ort-quant quantize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.output import Output, get_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from ort_quant_plugin.cli.options import DataSource
    from ort_quant_plugin.report import ExportReport, QuantizationReport

__all__ = ["command"]


@click.command("quantize")
@options.model_argument("Float ONNX model")
@click.option(
    "-o",
    "--out",
    "--save-path",
    "save_path",
    metavar="PREFIX",
    required=True,
    help="Folder and file-name prefix of the results.",
)
@options.data_options
@click.option(
    "--evaluator",
    metavar="FILE.py",
    help="Instead of --data: a python file with an object that has calibration(model).",
)
@click.option("-c", "--config", "--calibration-config", "config", metavar="FILE", help="JSON or .cfg configuration.")
@options.methods_option(
    "Calibration method; of several, separated by commas, the one whose net is nearest to the float net wins.  "
    "[default: ifmr]"
)
@click.option(
    "--score",
    type=click.Choice(["cosine", "snr"]),
    default="cosine",
    show_default=True,
    help="How the nets of several methods are compared with the float net.",
)
@click.option(
    "--search-samples",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Batches to compare the nets of several methods on.",
)
@options.storage_option
@options.workers_option
@click.option(
    "--sketches", metavar="FILE", help="Keep what was observed: the next call, with any method, needs no inference."
)
@click.option("--batch-num", type=click.IntRange(1), help="Batches to use.  [default: the configuration's, else all]")
@options.calibration_options
@options.export_options
@options.op_library_option
@options.force_option
@options.json_option
def command(*, model: str, save_path: str, source: DataSource | None, evaluator: str | None, **choices: Any) -> None:
    """Quantize a float model: prepare, calibrate, export.

    \b
    ort-quant quantize net.onnx --data photos/ --mean 127 --std 128 --out out/net
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.api import DEFAULT_TARGETS

    output = get_output()
    check_choices(choices, "config")
    if (source is None) == (evaluator is None):
        raise click.UsageError(
            "Missing option '--data'." if source is None else "--data and --evaluator exclude each other.",
            click.get_current_context(),
        )
    targets = choices.pop("targets")
    report = (
        _with_evaluator(model, evaluator, save_path, targets or DEFAULT_TARGETS, choices)
        if evaluator is not None
        else _with_data(model, source, save_path, targets or DEFAULT_TARGETS, choices)
    )
    for remark in [*getattr(report, "warnings", ()), *report.notes]:
        output.note(remark)
    output.result(report.to_dict(), summary(output, report))


def check_choices(choices: dict[str, Any], config: str) -> None:
    """Refuse choices that a configuration file would silently override."""
    if choices[config] is None:
        return
    names = {
        "skip_layers": "--skip-layer",
        "skip_layer_types": "--skip-layer-type",
        "symmetric": "--symmetric",
        "methods": "--method",
    }
    for name, option in names.items():
        if choices.get(name):
            raise click.UsageError(
                f"{option} has no effect beside a configuration file: write it into the file.",
                click.get_current_context(),
            )


def _with_data(
    model: str, source: DataSource | None, save_path: str, targets: Sequence[str], choices: dict[str, Any]
) -> ExportReport:
    from ort_quant_plugin.api import quantize

    assert source is not None
    symmetric, methods = choices.pop("symmetric"), choices.pop("methods")
    with get_output().progress() as progress:
        return quantize(
            model,
            source.data,
            save_path,
            targets=targets,
            activation_offset=not symmetric,
            method=methods or "ifmr",
            progress=progress or False,
            **choices,
            **source.options(model),
        )


def _with_evaluator(
    model: str, evaluator: str, save_path: str, targets: Sequence[str], choices: dict[str, Any]
) -> ExportReport:
    from ort_quant_plugin.cli.evaluator import quantize_with_evaluator

    context = click.get_current_context()
    if choices.pop("methods") or choices.pop("skip_layer_types"):
        raise click.UsageError(
            "--method and --skip-layer-type need --data; beside --evaluator write a configuration file.", context
        )
    for name in ("score", "search_samples", "workers", "sketches"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --data: the evaluator runs the model.", context)
        del choices[name]
    return quantize_with_evaluator(model, evaluator, save_path, targets=targets, **choices)


def summary(output: Output, report: ExportReport) -> Iterator[RenderableType]:
    """Say what was quantized, what stayed float and why, what was written."""
    from ort_quant_plugin.report import QuantizationReport

    chain = report if isinstance(report, QuantizationReport) else None
    run = (
        f" (calibrated on {views.count(chain.batches, 'batch')}, {chain.seconds:.1f} s)"
        if chain and chain.batches
        else ""
    )
    yield f"{views.layer_summary(report.layers)}{run}"
    if output.settings.verbose:
        yield ""
        yield views.layer_table(output, report.layers)
        yield from views.pass_lines(output, chain.passes if chain else ())
    else:
        yield from views.float_layers(output, report.layers)
    for title, text in (chain.sections if chain else {}).items():
        yield f"\n{title}\n{text}"
    yield from _scores(output, chain)
    record = {"record": chain.record} if chain and chain.record else {}
    yield ""
    yield views.file_table(output, report.outputs | record)


def _scores(output: Output, chain: QuantizationReport | None) -> Iterator[RenderableType]:
    """How the methods that were tried did."""
    if not chain or not chain.scores:
        return
    rows = [
        [
            found.method,
            "-" if found.score is None else f"{found.score:.6f}",
            "chosen" if found.chosen else found.reason or "",
        ]
        for found in chain.scores
    ]
    yield ""
    yield output.table(["Method", ("Score", "right"), ("", "wrap")], rows)
