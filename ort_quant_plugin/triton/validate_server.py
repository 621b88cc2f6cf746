"""Check what a running server makes of a repository: load states, real requests, and the answers bit for bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import OrtQuantError, TritonError
from ort_quant_plugin.passes.insert_observers import FLUSH
from ort_quant_plugin.triton.client import connect
from ort_quant_plugin.triton.config import CONFIG_NAME
from ort_quant_plugin.triton.finding import Finding
from ort_quant_plugin.triton.load import difference
from ort_quant_plugin.triton.local import LocalModel
from ort_quant_plugin.triton.repository import MODEL_NAME
from ort_quant_plugin.triton.served import describe_model, make_feeds

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.triton.client import ModelState, TritonClient
    from ort_quant_plugin.triton.served import ServedModel

    Array = NDArray[np.generic]
    Arrays = Mapping[str, Array]

__all__ = ["check_server"]

_BATCHES = (1, 3)
_PATIENCE = 2.0
"""Seconds to wait for a server that cannot be reached: it is meant to run."""
_ROUNDING = 1e-3
"""Largest difference, against the largest output, that other kernels of the same model may make."""


def check_server(folder: str | os.PathLike[str], url: str, *, timeout: float = 60.0) -> list[Finding]:
    """Compare a repository with the server that serves it.

    Every loaded version gets requests of made-up data, and the answers of models that lie in the repository as ONNX
    files must be those of ONNX Runtime here. Calibration models get none: they observe all they are asked.

    Args:
        folder: The repository, as the server has it.
        url: The server; see :func:`~ort_quant_plugin.triton.client.connect`.
        timeout: Seconds to wait for one answer.

    Raises:
        TritonError: The server cannot be reached.
    """
    models = sorted(path.parent.name for path in Path(folder).glob(f"*/{CONFIG_NAME}"))
    with connect(url, timeout=timeout, patience=_PATIENCE) as client:
        states = client.index()
        parts = _ensemble_parts(client, states)
        findings: list[Finding] = []
        for model in models:
            found = [state for state in states if state.name == model]
            findings += _check_model(client, Path(folder) / model, found, is_part=model in parts)
    return findings


def _ensemble_parts(client: TritonClient, states: Sequence[ModelState]) -> set[str]:
    """Models that loaded ensembles ask; those say more about them than made-up tensors could."""
    parts = set()
    for state in states:
        if state.state == "READY":
            parts |= {step.model_name for step in client.config(state.name, state.version).ensemble_scheduling.step}
    return parts


def _check_model(
    client: TritonClient, folder: Path, states: Sequence[ModelState], *, is_part: bool
) -> Iterator[Finding]:
    if not states:
        yield Finding(
            "error",
            folder.name,
            "server",
            f"{client.address} has no model of this name.",
            "Check that the server serves this repository.",
        )
    for state in states:
        subject = f"version {state.version}" if state.version else "server"
        if state.state == "READY":
            yield Finding("ok", folder.name, subject, "The server has loaded it.")
            yield from _check_answers(client, folder, state.version, is_part=is_part)
        else:
            yield _not_ready(folder.name, subject, state)


def _not_ready(model: str, subject: str, state: ModelState) -> Finding:
    reason = " ".join(state.reason.split())
    if state.state in {"", "UNAVAILABLE"} and reason in {"", "unloaded"}:
        hint = "Load it (explicit model control), or look why the server left it out."
        return Finding("warning", model, subject, "The server has not loaded it.", hint)
    hint = "The path of a library is the server's; 'ort-quant triton validate' without --server checks the files."
    return Finding("error", model, subject, f"The server says {state.state or 'nothing'}: {reason}", hint)


def _check_answers(client: TritonClient, folder: Path, version: str, *, is_part: bool) -> Iterator[Finding]:
    subject = f"version {version}"
    served = describe_model(client, folder.name, version)
    config = client.config(folder.name, version)
    if FLUSH in served.optional:
        yield Finding("ok", served.name, subject, "A calibration model: not asked, because it observes all requests.")
        return
    # The python backend's file is its program; our program for it runs the model beside it.
    name = config.default_model_filename
    file = folder / version / (name if name and not name.endswith(".py") else MODEL_NAME)
    if is_part and not file.is_file():
        return
    try:
        requests = _requests(served, config)
    except TritonError as error:
        yield Finding("warning", served.name, subject, f"No request could be made up: {error.message}", error.hint)
        return
    answers, failure = _ask(client, served, requests)
    if not file.is_file():
        yield _without_file(served.name, subject, failure)
        return
    try:
        local = LocalModel(file, config)
        expected = [local.run(feed, [tensor.name for tensor in served.outputs]) for feed in requests]
    except OrtQuantError as error:
        text = failure.message if failure else f"It answers, but does not run here: {error.message}"
        yield Finding("warning", served.name, subject, text, error.hint)
        return
    if failure is not None:
        yield _failed(served.name, subject, failure)
        return
    yield _parity(served, subject, expected, answers)


def _requests(served: ServedModel, config: Any) -> list[dict[str, Array]]:
    """Requests of several batch sizes; free axes have the sizes of the warm-up."""
    shapes = {name: tuple(data.dims) for sample in config.model_warmup for name, data in sample.inputs.items()}
    limit = (served.max_batch or max(_BATCHES)) if served.batched else 1
    sizes = sorted({min(batch, limit) for batch in _BATCHES})
    return [feed for batch in sizes for feed in make_feeds(served, batch=batch, shapes=shapes, seed=batch)]


def _ask(
    client: TritonClient, served: ServedModel, requests: Sequence[Arrays]
) -> tuple[list[dict[str, Array]], TritonError | None]:
    try:
        return [client.infer(served.name, feed, version=served.version) for feed in requests], None
    except TritonError as error:
        return [], error


def _without_file(model: str, subject: str, failure: TritonError | None) -> Finding:
    if failure is None:
        return Finding("ok", model, subject, "It answers requests.")
    return Finding("warning", model, subject, f"It refused a made-up request: {failure.details.get('reason')}")


def _failed(model: str, subject: str, failure: TritonError) -> Finding:
    return Finding(
        "error",
        model,
        subject,
        f"A request that runs in ONNX Runtime here fails there: {failure.details.get('reason', failure.message)}",
        failure.hint,
    )


def _parity(served: ServedModel, subject: str, expected: Sequence[Arrays], answers: Sequence[Arrays]) -> Finding:
    import onnxruntime

    here = f"ONNX Runtime {onnxruntime.__version__} here"
    worst = max(difference(one, other) for one, other in zip(expected, answers, strict=True))
    if worst == 0:
        return Finding("ok", served.name, subject, f"Its answers are those of {here}, bit for bit.")
    scale = max(float(np.abs(array.astype(np.float64)).max(initial=0)) for one in expected for array in one.values())
    if math.isfinite(worst) and worst <= _ROUNDING * scale:
        return Finding(
            "warning",
            served.name,
            subject,
            f"Its answers differ from those of {here} by up to {worst:.3g} (largest output {scale:.3g}).",
            "Another version of ONNX Runtime or another CPU may round differently.",
        )
    what = f"by up to {worst:.3g}" if math.isfinite(worst) else "in shape, type or NaN"
    return Finding(
        "error",
        served.name,
        subject,
        f"Its answers differ from those of {here} {what} (largest output {scale:.3g}).",
        "Check that the server has the same model file and library.",
    )
