"""``ort-quant triton new``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.output import Output, file_size, get_output
from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ort_quant_plugin.triton.ensemble import WrittenEnsemble
    from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions
    from ort_quant_plugin.triton.repository import WrittenModel

__all__ = ["command"]


@click.command("new")
@options.model_argument("Model to serve: float, fake_quant, deploy, ort, qdq or calibration")
@click.option(
    "-r",
    "--repository",
    metavar="DIR",
    required=True,
    help="Model repository to write into; made if it does not exist.",
)
@click.option("--name", metavar="NAME", help="Name clients ask for.  [default: the model's file name]")
@click.option(
    "--version", type=click.IntRange(1), default=1, show_default=True, help="Version; others of the name are kept."
)
@click.option(
    "--max-batch",
    type=click.IntRange(0),
    help="Largest batch; 0: no batch axis.  [default: 8 where the model's first axis is free, else 0]",
)
@click.option("--instances", type=click.IntRange(1), default=1, show_default=True, help="Copies that run side by side.")
@click.option(
    "--threads", type=click.IntRange(0), default=1, show_default=True, help="Threads of an instance; 0: one a core."
)
@click.option(
    "--dynamic-batching/--no-dynamic-batching", default=None, help="Join requests.  [default: where batches may be]"
)
@click.option(
    "--queue-delay",
    type=click.IntRange(0),
    default=500,
    show_default=True,
    help="Longest wait for further requests, in microseconds.",
)
@click.option(
    "--max-queue", type=click.IntRange(0), default=256, show_default=True, help="Requests that may wait; 0: no limit."
)
@click.option(
    "--queue-timeout",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Refuse requests that waited longer, in microseconds; 0: never.",
)
@click.option("--preferred-batch", type=click.IntRange(1), multiple=True, help="Batch size to run at once. Repeatable.")
@click.option("--warmup/--no-warmup", default=True, show_default=True, help="Run zeros before the model is ready.")
@click.option(
    "--input-shape", metavar="SHAPES", help="Sizes for warm-up where axes are free: 'name1:c,h,w;name2:…', no batch."
)
@click.option(
    "--ops-path",
    metavar="absolute|bare|kserve|PATH",
    default="absolute",
    show_default=True,
    help="How the server finds our library: a copy in the repository; by LD_LIBRARY_PATH; under KServe's mount; or "
    "where it lies on the server.",
)
@click.option("--mount", metavar="PATH", help="Where the server sees the repository, if not at DIR.")
@options.op_library_option
@click.option(
    "--graph-level",
    type=click.Choice(["-1", "0", "1", "2"]),
    help="Graph optimization: -1 basic, 0 all, 1 extended, 2 none.  [default: 2 for fake_quant, else 0]",
)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "python"]),
    default="onnxruntime",
    show_default=True,
    help="python: for servers without the ONNX Runtime backend.",
)
@click.option(
    "--version-policy",
    metavar="POLICY",
    default="all",
    show_default=True,
    help="Versions to serve: all, latest, latest:N or numbers such as 1,3.",
)
@click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="Label on the model's metrics. Repeatable.")
@click.option("--response-cache", is_flag=True, help="Answer repeated requests from the server's cache.")
@click.option(
    "--ensemble", is_flag=True, help="Image classifier: also write NAME_ensemble, from encoded image to label."
)
@click.option("--labels", metavar="FILE", help="Ensemble: names of the classes, one a line.")
@click.option("--top-k", type=click.IntRange(1), default=1, show_default=True, help="Ensemble: classes in the answer.")
@click.option("--softmax", is_flag=True, help="Ensemble: make the scores probabilities.")
@options.image_options
@options.force_option
@options.json_option
def command(
    model: str,
    repository: str,
    preprocess: dict[str, Any],
    ensemble: bool,
    labels: str | None,
    top_k: int,
    softmax: bool,
    force: bool,
    **given: Any,
) -> None:
    """Write a model into a Triton model repository: configuration, version folder, library.

    \b
    ort-quant triton new out/net_ort_model.onnx --repository models --name net
    ort-quant triton new net.onnx -r models --name net --version 2 --max-batch 16 --threads 4
    ort-quant triton new net.onnx -r models --ensemble --mean 127 --std 128 --crop 224 --labels names.txt
    """  # noqa: D301  (\b is click's mark for "do not wrap", not an escape to keep)
    from ort_quant_plugin.triton.repository import write_model

    output = get_output()
    chosen = _options(model, given)
    if ensemble:
        from ort_quant_plugin.calibration.images import ImagePreprocess
        from ort_quant_plugin.triton.ensemble import Classifier, write_ensemble

        classifier = Classifier(ImagePreprocess(**preprocess), labels, top_k, softmax)
        whole = write_ensemble(model, repository, chosen, classifier, force=force)
        _print(output, whole.model, whole, repository)
        return
    if preprocess or labels or softmax:
        raise click.UsageError("--labels, --softmax and image options need --ensemble.", click.get_current_context())
    _print(output, write_model(model, repository, chosen, force=force), None, repository)


def _options(model: str, given: dict[str, Any]) -> RepositoryOptions:
    from ort_quant_plugin.triton.options import RepositoryOptions

    batching = _batching(given)
    level, shapes = given.pop("graph_level"), given.pop("input_shape")
    known = {field.name for field in fields(RepositoryOptions)}
    assert set(given) <= known, set(given) - known
    return RepositoryOptions(
        **{
            **given,
            "name": given["name"] or Path(model).stem,
            "dynamic_batching": batching,
            "graph_level": None if level is None else int(level),
            "shapes": options.parse_shapes(shapes) if shapes else {},
            "tags": dict(_tag(text) for text in given["tags"]),
        }
    )


def _batching(given: dict[str, Any]) -> DynamicBatching | None:
    from ort_quant_plugin.triton.options import DynamicBatching

    asked = given.pop("dynamic_batching")
    batching = DynamicBatching(
        queue_delay_us=given.pop("queue_delay"),
        max_queue_size=given.pop("max_queue"),
        timeout_us=given.pop("queue_timeout"),
        preferred_sizes=given.pop("preferred_batch"),
    )
    if asked and given["max_batch"] is not None and given["max_batch"] < 2:
        raise ConfigError(
            f"--dynamic-batching is given, but --max-batch is {given['max_batch']}: there is nothing to join.",
            hint="Raise --max-batch, or leave --dynamic-batching out.",
        )
    return None if asked is False else batching


def _tag(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE.", click.get_current_context(), param_hint="'--tag'")
    return key, value


def _print(output: Output, written: WrittenModel, ensemble: WrittenEnsemble | None, repository: str) -> None:
    whole = ensemble or written
    for note in whole.notes:
        output.note(note)
    output.result(whole.to_dict(), _parts(output, written, ensemble, repository))


def _parts(
    output: Output, written: WrittenModel, ensemble: WrittenEnsemble | None, repository: str
) -> Iterator[RenderableType]:
    batches = f"batches of up to {written.max_batch}" if written.max_batch else "requests one by one"
    yield f"Model '{written.name}', version {written.version}: {written.precision}, {batches}"
    for path in written.library_paths:
        yield f"Library on the server: {path}"
    if ensemble is not None:
        yield f"Model '{ensemble.name}': encoded image in, labels out; the server's Python needs numpy and Pillow"
    if any(path.name == "model.py" for path in written.files):
        yield "The server's Python needs numpy and onnxruntime"
    yield ""
    around = [path for folder in ensemble.folders for path in sorted(folder.rglob("*.*"))] if ensemble else []
    rows = [[file_size(path), str(path)] for path in (*written.files, *around)]
    yield output.table([("Size", "right"), "Written"], rows)
    yield "\nNext:"
    yield f"  ort-quant triton validate {repository}"
    yield f"  ort-quant triton serve --dev {repository}"
