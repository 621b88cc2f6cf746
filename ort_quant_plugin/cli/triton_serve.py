"""``ort-quant triton serve``."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ort_quant_plugin.cli import options
from ort_quant_plugin.cli.output import Output, get_output
from ort_quant_plugin.errors import TritonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.console import RenderableType

    from ort_quant_plugin.triton.demo import Demo
    from ort_quant_plugin.triton.server import DevServer

__all__ = ["command"]

_DEMO_REPOSITORY = "ort-quant-demo-repository"


@click.command("serve")
@click.argument("repository", metavar="[REPOSITORY]", required=False)
@click.option("--dev", is_flag=True, help="Say that a development server is what you want. Required.")
@click.option("--demo", is_flag=True, help=f"Write a repository of the demo model first (default: {_DEMO_REPOSITORY}).")
@click.option("--http-port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="0: a free one.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=8002, show_default=True, help="0: a free one.")
@click.option("--explicit", is_flag=True, help="Load no model until a client asks for it.")
@click.option("--tolerate-failures", is_flag=True, help="Come up although a model cannot be loaded.")
@click.option("--log", metavar="FILE", type=click.Path(dir_okay=False), help="Append the server's output to FILE.")
@options.json_option
def command(
    repository: str | None,
    dev: bool,
    demo: bool,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    explicit: bool,
    tolerate_failures: bool,
    log: str | None,
) -> None:
    """Run a development server on a repository until Ctrl-C: the real tritonserver, for this machine only.

    It comes from PyPI (once, about 320 MB in the user's cache folder) without Triton's ONNX Runtime backend; a slower
    stand-in takes its place. Use a Triton container in production.
    """
    from ort_quant_plugin.triton.server import DevServer, ensure_environment

    if not dev:
        raise click.UsageError("This is a development server only; say so with --dev.", click.get_current_context())
    if repository is None and not demo:
        raise click.UsageError("Missing argument 'REPOSITORY' (or --demo).", click.get_current_context())
    output = get_output()
    folder = Path(repository or _DEMO_REPOSITORY)
    with _interruptible():
        written = _write_demo(folder) if demo else None
        server = DevServer(
            folder,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            explicit=explicit,
            tolerate_failures=tolerate_failures,
            auto_complete=not demo,  # its configurations are complete, and load in half the time
            log=log,
        )
        server.environment = ensure_environment(note=output.note)
        with server:
            document = _document(server, None if explicit else written)
            output.result(document, _parts(output, document, written))
            sys.stdout.flush()
            output.note("The server runs until Ctrl-C.")
            code = server.wait()
            said = server.last_words()
        raise TritonError(
            f"The development server ended by itself with code {code}: {said}",
            hint="Keep its output with --log FILE." if log is None else f"Its output is in {log}.",
            code=code,
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM are how this command is meant to end: the server is stopped, the exit code is 0."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _write_demo(folder: Path) -> Demo:
    from ort_quant_plugin.triton.demo import write_demo

    return write_demo(folder)


def _document(server: DevServer, demo: Demo | None) -> dict[str, Any]:
    from ort_quant_plugin.triton.client import connect

    with connect(server.http_url) as client:
        models = client.index()
        predictions = None
        if demo is not None:
            feeds = {demo.input: demo.image}
            answers = {model: client.infer(model, feeds)[demo.output] for model in demo.models}
            predictions = {model: int(logits.argmax()) for model, logits in answers.items()}
    return {
        "http": f"http://{server.http_url}",
        "grpc": f"grpc://{server.grpc_url}",
        "metrics": f"http://{server.metrics_url}/metrics",
        "repository": str(server.repository),
        "pid": server.pid,
        "models": [vars(model) for model in models],
        "predictions": predictions,
    }


def _parts(output: Output, document: dict[str, Any], demo: Demo | None) -> Iterator[RenderableType]:
    endpoints = [[name, document[name]] for name in ("http", "grpc", "metrics", "repository")]
    yield output.table(["Development server", ""], endpoints)
    yield ""
    rows = [[m["name"], m["version"] or "-", m["state"] or "not loaded", m["reason"]] for m in document["models"]]
    yield output.table(["Model", "Version", "State", ("Reason", "wrap")], rows)
    if demo is None or document["predictions"] is None:
        return
    yield ""
    rows = [[model, str(digit), str(demo.label)] for model, digit in document["predictions"].items()]
    yield output.table(["Prediction of", ("Digit", "right"), ("True", "right")], rows)
    yield "\nAsk it yourself:"
    tensor = {
        "name": demo.input,
        "shape": list(demo.image.shape),
        "datatype": "FP32",
        "data": [float(value) for value in demo.image.ravel()],
    }
    request = json.dumps({"inputs": [tensor]}, separators=(",", ":"))
    yield f"  curl -s {document['http']}/v2/models/{demo.models[-1]}/infer -d '{request}'"
    yield "\nMeasure it:"
    yield f"  ort-quant triton bench {document['grpc']} {demo.models[0]} {demo.models[-1]} --batch-size 8"
