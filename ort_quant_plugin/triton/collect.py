"""Calibration in production: a served calibration model observes what clients send; a flush brings the sketches home.

Every run of the model is observed, whoever asked for it. A request with ``ort_quant.flush = [true]`` gets the sketches
of all runs since the last flush, its own included; the server then starts new ones. So a flush is never repeated when
its connection fails, and what it brought is in a file before anything else is done with it.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import OutputError, TritonError
from ort_quant_plugin.logs import LOGGER
from ort_quant_plugin.passes.insert_observers import FLUSH, SKETCHES
from ort_quant_plugin.progress import ProgressEvent
from ort_quant_plugin.triton.client import connect
from ort_quant_plugin.triton.served import describe_model

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.calibration.sketch_file import SketchFile
    from ort_quant_plugin.progress import Progress
    from ort_quant_plugin.triton.client import TritonClient
    from ort_quant_plugin.triton.served import ServedModel

    Array = NDArray[np.generic]
    PathLike = str | os.PathLike[str]

__all__ = ["TritonCalibration", "calibrate_from_triton", "collect_sketches"]


@dataclass(frozen=True)
class TritonCalibration:
    """What was made of a served calibration model's sketches.

    Attributes:
        records: Record files written, by method.
        collections: Flushes whose sketches are in them: this time's, one a server, and kept ones.
        values: Values the most observed tensor saw.
        sketches: The saved sketches, where they were kept.
    """

    records: dict[str, Path]
    collections: int
    values: int
    sketches: Path | None


def collect_sketches(
    url: str,
    model: str,
    *,
    version: str = "",
    feeds: Iterable[Mapping[str, Array]] = (),
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> bytes:
    """Flush a served calibration model and return its sketches.

    Args:
        url: The server; see :func:`~ort_quant_plugin.triton.client.connect`.
        model: The calibration model there.
        version: Its version.
        feeds: Requests to send, to be observed too; the last one flushes. Without any, an empty batch flushes, which
            adds nothing to the sketches.
        timeout: Seconds to wait for one answer.
        progress: Gets an event after every request.

    Returns:
        The sketches one behind the other, for :func:`~ort_quant_plugin.api.write_ranges`.

    Raises:
        TritonError: The server cannot be reached, or serves the model in a way that loses or spoils sketches; or the
            model has seen no data.
        CalibrationError: What came back is damaged.
        DataError: A batch cannot be read.
    """
    from ort_quant_plugin.calibration.sketch import Sketch

    with connect(url, timeout=timeout) as client:
        served = describe_model(client, model, version)
        _check_served(served, client)
        requests, total = iter(feeds), len(feeds) if isinstance(feeds, Sized) else None
        request, done = next(requests, None), 0
        for following in requests:
            assert request is not None
            # Asked again after a broken connection, a request may be observed twice: better than to lose the rest.
            client.infer(model, request, outputs=[SKETCHES], version=version)
            request, done = following, done + 1
            if progress is not None:
                progress(ProgressEvent("send", done, total))
        blob = _flush(client, served, request)
        if progress is not None and request is not None:
            progress(ProgressEvent("send", done + 1, total))
    sketches = Sketch.split(blob)
    if not any(sketch.count + sketch.non_finite for sketch in sketches):
        raise TritonError(
            f"Model {served.label!r} at {url} has seen no data since it was loaded or flushed last.",
            hint="Send it requests first, or give data to send with --data.",
            url=url,
            model=model,
        )
    return blob


def calibrate_from_triton(
    model_file: PathLike,
    urls: Sequence[str],
    triton_model: str,
    *,
    version: str = "",
    data: Any = None,
    data_options: Mapping[str, Any] | None = None,
    method: str | Sequence[str] | None = None,
    sketches: PathLike | None = None,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> TritonCalibration:
    """Fill the record of a calibration model from what servers of it have observed.

    Args:
        model_file: The calibration model, from :func:`~ort_quant_plugin.api.quantize_model`; the servers have a copy.
        urls: The servers, each flushed once; their sketches merge exactly.
        triton_model: The calibration model's name there.
        version: Its version.
        data: Data to send, shared out among the servers, as for :func:`~ort_quant_plugin.api.calibrate`; default: none,
            only what clients have sent counts.
        data_options: Further arguments of ``open_data``.
        method: As for :func:`~ort_quant_plugin.api.calibrate`.
        sketches: File to keep the sketches in; those it holds already are used too, so that several calls add up.
            Without it, a file beside the record exists only until the record is written.
        timeout: Seconds to wait for one answer.
        progress: Gets an event after every request.

    Raises:
        TritonError: See :func:`collect_sketches`; what other servers gave is in the file, and counts in the next call.
        CalibrationError: A tensor's data has no range, or holds NaN or infinity.
        RecordError: The record file is missing or of another model.
        OutputError: The file is of another model.
    """
    from ort_quant_plugin.api import default_sketch_file, write_ranges

    if not urls:
        raise TritonError("No server is given.", hint="Give at least one address.")
    path = Path(default_sketch_file(model_file) if sketches is None else sketches)
    collected = _open_file(Path(model_file), path)
    parts = _share_out(model_file, data, data_options or {}, len(urls))
    for url, part in zip(urls, parts, strict=True):
        blob = collect_sketches(url, triton_model, version=version, feeds=part, timeout=timeout, progress=progress)
        collected = _added(collected, blob)
        collected.write(path)
    records = write_ranges(model_file, path, method=method)
    if sketches is None:
        path.unlink()
    values = max(sketch.count for sketch in collected.sketches.values())
    return TritonCalibration(records, collected.batches, values, None if sketches is None else path)


def _check_served(served: ServedModel, client: TritonClient) -> None:
    """Refuse models without sketches, and configurations under which a flush would not bring all of them."""
    subject = f"Model {served.label!r} at {client.address}"
    names = {tensor.name for tensor in served.inputs} | set(served.optional)
    if FLUSH not in names or SKETCHES not in {tensor.name for tensor in served.outputs}:
        raise TritonError(
            f"{subject} has no input {FLUSH!r} and output {SKETCHES!r}, so it hands out no sketches.",
            hint="Serve the file that 'ort-quant prepare' wrote, with methods other than ifmr and hfmg (those write "
            "their record on the server), and let 'ort-quant triton new' write its configuration.",
            model=served.name,
        )
    config = client.config(served.name, served.version)
    instances = sum(group.count for group in config.instance_group)
    if instances > 1:
        raise TritonError(
            f"{subject} runs in {instances} instances; each has sketches of its own, and a flush reaches only one.",
            hint="Serve it with one instance (count: 1 in instance_group).",
            model=served.name,
            instances=instances,
        )
    if config.model_warmup:
        LOGGER.warning("%s has warm-up requests: the data of these was observed too.", subject)


def _flush(client: TritonClient, served: ServedModel, request: Mapping[str, Array] | None) -> bytes:
    feeds = dict(_empty_batch(served) if request is None else request)
    feeds[FLUSH] = np.array([True])
    try:
        answer = client.infer(served.name, feeds, outputs=[SKETCHES], version=served.version, retry=False)
    except TritonError as error:
        if request is not None or error.details.get("unreachable"):
            raise
        raise TritonError(
            f"An empty batch does not flush {served.label!r}: {error.details.get('reason', error.message)}",
            hint="Give at least one real sample with --data: its request will flush.",
            model=served.name,
        ) from error
    return answer[SKETCHES].tobytes()


def _empty_batch(served: ServedModel) -> dict[str, Array]:
    inputs = [tensor for tensor in served.inputs if tensor.name != FLUSH]
    if not inputs or not all(tensor.shape and tensor.shape[0] is None for tensor in inputs):
        raise TritonError(
            f"Model {served.label!r} has a fixed batch, so every request adds data, a flush too.",
            hint="Give at least one real sample with --data: its request will flush.",
            model=served.name,
        )
    # Other free axes get size 1: without samples they hold nothing.
    return {t.name: np.zeros([0, *(size or 1 for size in t.shape[1:])], t.dtype) for t in inputs}


def _share_out(
    model_file: PathLike, data: Any, options: Mapping[str, Any], servers: int
) -> list[Iterable[Mapping[str, Array]]]:
    if data is None:
        return [()] * servers
    from ort_quant_plugin.calibration.data import open_data
    from ort_quant_plugin.model import input_specs, read_model

    batches = open_data(data, input_specs(read_model(model_file)), **options)
    bounds = [len(batches) * index // servers for index in range(servers + 1)]
    return [batches.select(start, stop) for start, stop in pairwise(bounds)]


def _open_file(model_file: Path, path: Path) -> SketchFile:
    """The sketches so far. One collection counts as one batch."""
    from ort_quant_plugin.calibration.calibrate import calibration_nodes
    from ort_quant_plugin.calibration.observed import observed_tensors
    from ort_quant_plugin.calibration.runner import digest_files
    from ort_quant_plugin.calibration.sketch_file import SketchFile
    from ort_quant_plugin.files import check_writable
    from ort_quant_plugin.model import read_model

    nodes = calibration_nodes(read_model(model_file))
    layers = {
        value.name or "": tuple(chain.from_iterable(use.keys for use in uses))
        for value, uses in observed_tensors(nodes).items()
    }
    fresh = SketchFile({}, layers, f"triton:{digest_files([model_file])}", None, 1)
    if not path.exists():
        check_writable(path.parent)
        return fresh
    saved = SketchFile.read(path)
    if saved.model != fresh.model or not saved.complete:
        raise OutputError(
            f"{str(path)!r} holds sketches of another model, or of a calibration with data of its own.",
            hint="Give another file for the sketches, or delete this one.",
            path=str(path),
        )
    return saved


def _added(file: SketchFile, blob: bytes) -> SketchFile:
    from ort_quant_plugin.calibration.choose import refuse_non_finite, subject_of
    from ort_quant_plugin.calibration.sketch import Sketch, merge

    found: Mapping[str, Sketch] = merge(Sketch.split(blob))
    for tensor, sketch in found.items():  # before they spoil what is there
        refuse_non_finite(sketch, subject_of(tensor, file.layers.get(tensor, ())), "the requests")
    start = sum(stop - begin for begin, stop in file.done)
    return replace(file, batches=start + 1).with_part(start, start + 1, found)
