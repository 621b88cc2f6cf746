"""``ort-quant triton bench``."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Any

import click

from ort_quant_plugin.cli import options, views
from ort_quant_plugin.cli.main import EXIT_FINDING
from ort_quant_plugin.cli.output import Output, get_output, stylize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.text import Text

    from ort_quant_plugin.cli.options import DataSource
    from ort_quant_plugin.triton.bench import BenchReport

__all__ = ["command"]


class _Counts(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    name = "counts"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N[,N…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a list of numbers of at least 1, separated by commas.", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


@click.command("bench")
@click.argument("url", metavar="URL")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--protocol",
    type=click.Choice(["http", "grpc"]),
    help="For a URL without a scheme such as grpc://.  [default: http]",
)
@click.option(
    "--concurrency", type=_Counts(), default="1,2,4,8", show_default=True, help="Numbers of callers to measure with."
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
    help="Time for each model and concurrency.",
)  # fmt: skip
@click.option(
    "--shared-memory", is_flag=True, help="Pass tensors through shared memory: the server is on this machine."
)
@click.option(
    "--reference", "references", metavar="MODEL=FILE", multiple=True,
    help="Compare the answers with this model file, run here, instead of the first answers. Repeatable.",
)  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(0), default=0.0, show_default=True, help="Difference that is allowed."
)
@click.option("--no-check", "check", is_flag=True, flag_value=False, default=True, help="Do not compare answers.")
@options.data_options
@options.json_option
def command(
    *,
    url: str,
    models: tuple[str, ...],
    source: DataSource | None,
    references: tuple[str, ...],
    **rest: Any,
) -> None:
    """Measure models of a running server: throughput, latency, its queue and compute time; compare them side by side.

    MODEL is a name, or name:version. The first one is what the others are compared with. Data is random numbers
    unless --data gives it; --input-shape then gives free axes their sizes. All answers are compared, to the bit, with
    the first answer to the same request; a wrong or missing one makes the exit code 1.

    \b
    ort-quant triton bench grpc://localhost:8001 net_fp32 net_int8 --concurrency 1,4 --batch-size 8
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.triton.bench import bench

    output = get_output()
    context = click.get_current_context()
    given = context.params  # data_options keeps these to itself where there is no --data
    if given["data_types"] and not given["input_shape"]:
        raise click.UsageError("--data-types needs --input-shape: the model is on the server.", context)
    with output.progress() as progress:
        report = bench(
            url,
            models,
            batch=given["batch_size"],
            data=source.data if source is not None else None,
            data_options=source.options("") if source is not None else None,
            shapes=options.parse_shapes(given["input_shape"]) if source is None and given["input_shape"] else None,
            references=_references(references),
            progress=progress,
            **rest,
        )
    output.result(report.to_dict(), _parts(output, report))
    if report.wrong or report.errors:
        context.exit(EXIT_FINDING)


def _references(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        model, equals, file = text.partition("=")
        if not equals or not model or not file:
            raise click.BadParameter(
                f"{text!r} is not MODEL=FILE.", click.get_current_context(), param_hint="'--reference'"
            )
        found[model] = file
    return found


def _parts(output: Output, report: BenchReport) -> Iterator[RenderableType]:
    memory = ", shared memory" if report.shared_memory else ""
    yield f"{report.url}, {views.count(report.batch, 'sample')} a request{memory}"
    yield ""
    figures = ("Callers", "Samples/s", "p50 ms", "p95 ms", "p99 ms", "Queue ms", "Compute ms", "Batch")
    columns: list[str | tuple[str, str]] = ["Model", *((name, "right") for name in figures)]
    compared = len(report.models) > 1
    if compared:
        columns.append(("Speed", "right"))
    rows = []
    for place in range(len(report.models[0].points)):
        for index, model in enumerate(report.models):
            point = model.points[place]
            row = [model.model, str(point.concurrency), f"{point.throughput:.1f}"]
            row += [f"{value:.2f}" for value in (point.p50_ms, point.p95_ms, point.p99_ms)]
            row += [f"{point.queue_ms:.2f}", f"{point.compute_ms:.2f}", f"{point.mean_batch:.1f}"]
            if compared:
                row.append(f"{report.speedups(index)[place]:.2f}x" if index else "1x")
            rows.append(row)
    yield output.table(columns, rows)
    yield ""
    yield from _verdict(output, report)


def _verdict(output: Output, report: BenchReport) -> Iterator[RenderableType]:
    for model in report.models:
        errors, wrong = (sum(getattr(point, name) for point in model.points) for name in ("errors", "wrong"))
        if errors:
            yield f"- {model.model}: {views.count(errors, 'request')} failed; the first: {model.failure}"
        if wrong:
            largest = f"{model.largest_error:.3g}" if math.isfinite(model.largest_error) else "in shape, text or NaN"
            yield f"- {model.model}: {views.count(wrong, 'wrong answer')}, the largest difference: {largest}"
    yield _word(report).append(f" in {report.seconds:.1f} s: ort-quant {shlex.join(output.settings.arguments)}")


def _word(report: BenchReport) -> Text:
    if report.wrong or report.errors:
        return stylize("FAILED", "bold red")
    if report.checked is None:
        return stylize("DONE, answers not compared", "bold")
    answers = sum(point.requests for model in report.models for point in model.points)
    how = f"within {report.tolerance:g} of" if report.tolerance else "bit for bit equal to"
    whose = "the first ones" if report.checked == "first answer" else "ONNX Runtime's here"
    return stylize("PASSED", "bold green").append(f", {views.count(answers, 'answer')} {how} {whose},")
