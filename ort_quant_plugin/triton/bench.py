"""Measure served models under load: throughput, latency, the server's own times, and that all answers are right.

Closed loop: ``concurrency`` callers, each with a connection of its own, send the next request when the last one is
answered. Several models are measured in turns within each concurrency, so that a machine that gets slower or faster
meanwhile does not favour one of them. Every answer is compared, outside of the measured latency, with the first answer
to the same request or with ONNX Runtime here.

The callers are threads of this process. A server that answers in much less than a millisecond is faster than they
can ask; ``perf_analyzer`` asks faster, but does not compare models in turns.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.logs import LOGGER
from ort_quant_plugin.passes.insert_observers import FLUSH
from ort_quant_plugin.progress import ProgressEvent
from ort_quant_plugin.triton.client import connect
from ort_quant_plugin.triton.load import Job, Turn, run_turn
from ort_quant_plugin.triton.local import LocalModel
from ort_quant_plugin.triton.served import describe_model, make_feeds, split_model_name

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.progress import Progress
    from ort_quant_plugin.triton.address import Protocol
    from ort_quant_plugin.triton.client import TritonClient
    from ort_quant_plugin.triton.served import ServedModel

    Array = NDArray[np.generic]
    Arrays = Mapping[str, Array]
    References = Mapping[str, "str | os.PathLike[str]"]

__all__ = ["BenchReport", "LoadPoint", "ModelBench", "bench"]

_TURNS = 2
"""Turns a model gets within one concurrency."""
_FEEDS = 8
"""Different requests a model gets."""
_PATIENCE = 2.0
"""Seconds to wait for a server that cannot be reached: it is meant to run."""


@dataclass(frozen=True)
class LoadPoint:
    """One model under one concurrency.

    Attributes:
        concurrency: Callers.
        requests: Requests answered.
        errors: Requests that failed.
        wrong: Answers that were not the expected ones.
        seconds: Time under load.
        throughput: Samples a second.
        mean_ms: Mean time from request to answer, in milliseconds, as all times here.
        p50_ms: Half of the requests were answered within this time.
        p95_ms: 95 % were.
        p99_ms: 99 % were.
        queue_ms: Of the mean, time a request waited in the server.
        compute_ms: Of the mean, time in the model, its inputs gathered and outputs handed out. The rest is connection,
            client and protocol.
        mean_batch: Samples the server ran at once, on average.
    """

    concurrency: int
    requests: int
    errors: int
    wrong: int
    seconds: float
    throughput: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    queue_ms: float
    compute_ms: float
    mean_batch: float


@dataclass(frozen=True)
class ModelBench:
    """One model.

    Attributes:
        model: ``name`` or ``name:version``.
        points: One entry a concurrency.
        largest_error: Largest difference of an answer from the expected one; infinite if shape, text or NaNs differ.
        failure: What the first failed request said.
    """

    model: str
    points: tuple[LoadPoint, ...]
    largest_error: float = 0.0
    failure: str | None = None


@dataclass(frozen=True)
class BenchReport:
    """A measurement.

    Attributes:
        url: The server.
        batch: Samples a request.
        shared_memory: Whether tensors went through shared memory.
        checked: What answers were compared with: ``first answer``, ``onnxruntime``, or ``None``.
        tolerance: Largest difference that counts as right.
        models: In the order given.
        seconds: Wall time of everything.
    """

    url: str
    batch: int
    shared_memory: bool
    checked: str | None
    tolerance: float
    models: tuple[ModelBench, ...]
    seconds: float

    @property
    def wrong(self) -> int:
        """Wrong answers."""
        return sum(point.wrong for model in self.models for point in model.points)

    @property
    def errors(self) -> int:
        """Failed requests."""
        return sum(point.errors for model in self.models for point in model.points)

    def speedups(self, index: int) -> list[float]:
        """Throughput of a model against the first one, one entry a concurrency; NaN where the first had none."""
        pairs = zip(self.models[0].points, self.models[index].points, strict=True)
        return [other.throughput / first.throughput if first.throughput else float("nan") for first, other in pairs]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        models = [
            asdict(model) | ({"speedups": self.speedups(index)} if index else {})
            for index, model in enumerate(self.models)
        ]
        return asdict(self) | {"wrong": self.wrong, "errors": self.errors, "models": models}


def bench(
    url: str,
    models: Sequence[str],
    *,
    protocol: Protocol | None = None,
    concurrency: Sequence[int] = (1, 2, 4, 8),
    seconds: float = 5.0,
    batch: int = 1,
    shared_memory: bool = False,
    data: Any = None,
    data_options: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    check: bool = True,
    references: References | None = None,
    tolerance: float = 0.0,
    timeout: float = 60.0,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure models of a running server, side by side.

    Args:
        url: The server; see :func:`~ort_quant_plugin.triton.client.connect`.
        models: ``name`` or ``name:version``; the first is what the others are compared with.
        protocol: For an address without a scheme.
        concurrency: Numbers of callers to measure with.
        seconds: Time for each model and concurrency.
        batch: Samples a request.
        shared_memory: Pass tensors through memory shared with the server, which must run on this machine.
        data: What to send, as for ``calibrate``; default: random numbers.
        data_options: Further arguments of ``open_data``.
        shapes: For random numbers: sizes of inputs with free axes besides the batch axis, by name.
        check: Whether to compare answers.
        references: Model files by model (spelled as in ``models``) to compare with, run here as the served
            configuration says; models without one are compared with their first answers.
        tolerance: Largest absolute difference that counts as right; 0: equal to the bit.
        timeout: Seconds to wait for one answer.
        progress: Gets an event after every turn.

    Raises:
        TritonError: The server cannot be reached, a model is not loaded, or refuses the first request.
        ConfigError: A number is out of range, or ``references`` names a model that is not measured.
        DataError: The data does not fit the model.
        ModelError: A reference does not run here.
    """
    references = references or {}
    _check_arguments(models, concurrency, seconds, batch, references)
    started = time.perf_counter()
    jobs = []
    with connect(url, protocol=protocol, timeout=timeout, patience=_PATIENCE) as client:
        for name in models:
            model = describe_model(client, *split_model_name(name))
            if FLUSH in model.optional:
                LOGGER.warning("%s is a calibration model: it will have observed what is sent now.", model.label)
            feeds = _feeds(model, batch, data, data_options, shapes)
            expected = _expected(client, model, feeds, references.get(name))
            jobs.append(Job(url, protocol, timeout, shared_memory, model, feeds, expected, check, tolerance))
        turns = _run(client, jobs, concurrency, seconds, progress)
        address = str(client.address)
    found = tuple(_model_bench(job, turns[index], batch) for index, job in enumerate(jobs))
    checked = ("onnxruntime" if references else "first answer") if check else None
    return BenchReport(address, batch, shared_memory, checked, tolerance, found, time.perf_counter() - started)


def _check_arguments(
    models: Sequence[str], concurrency: Sequence[int], seconds: float, batch: int, references: References
) -> None:
    _require("models", list(models), bool(models), "at least one")
    _require("concurrency", list(concurrency), bool(concurrency) and min(concurrency) > 0, "numbers of at least 1")
    _require("seconds", seconds, seconds > 0, "more than 0")
    _require("batch", batch, batch > 0, "at least 1")
    _require("references", list(references), set(references) <= set(models), f"models of these: {', '.join(models)}")


def _require(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise ConfigError(f"{name} is {value}; expected {expected}.", hint=f"Correct {name}.", value=value)


def _feeds(
    model: ServedModel,
    batch: int,
    data: Any,
    options: Mapping[str, Any] | None,
    shapes: Mapping[str, Sequence[int]] | None,
) -> list[dict[str, Array]]:
    if data is None:
        return make_feeds(model, batch=batch, count=_FEEDS, shapes=shapes)
    from ort_quant_plugin.calibration.data import open_data

    batches = open_data(data, model.specs(), **{**(options or {}), "batch_size": batch})
    return list(islice(batches, _FEEDS))


def _expected(
    client: TritonClient, model: ServedModel, feeds: Sequence[Arrays], reference: str | os.PathLike[str] | None
) -> list[Arrays]:
    """The right answers; the server is asked in any case, so that a refusal shows before the load."""
    answers: list[Arrays] = [client.infer(model.name, feed, version=model.version) for feed in feeds]
    if reference is None:
        return answers
    local = LocalModel(reference, client.config(model.name, model.version))
    return [local.run(feed, list(answers[0])) for feed in feeds]


def _run(
    client: TritonClient, jobs: Sequence[Job], concurrency: Sequence[int], seconds: float, progress: Progress | None
) -> list[list[tuple[int, Turn]]]:
    """Turns by job, each with its concurrency."""
    found: list[list[tuple[int, Turn]]] = [[] for _ in jobs]
    done, total = 0, len(concurrency) * _TURNS * len(jobs)
    for callers in concurrency:
        sums = [Turn() for _ in jobs]
        for _ in range(_TURNS):
            for index, job in enumerate(jobs):
                sums[index] += run_turn(client, job, callers, seconds / _TURNS)
                done += 1
                if progress is not None:
                    progress(ProgressEvent("bench", done, total, "turn"))
        for index, turn in enumerate(sums):
            found[index].append((callers, turn))
    return found


def _model_bench(job: Job, turns: Sequence[tuple[int, Turn]], batch: int) -> ModelBench:
    whole = sum((turn for _, turn in turns), Turn())
    points = tuple(_point(callers, turn, batch) for callers, turn in turns)
    return ModelBench(job.model.label, points, whole.largest_error, whole.failure)


def _point(callers: int, turn: Turn, batch: int) -> LoadPoint:
    milliseconds = 1e3 * np.array(turn.latencies or [np.nan])
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99], method="inverted_cdf")
    stats, requests = turn.statistics, max(turn.statistics.requests, 1)
    return LoadPoint(
        concurrency=callers,
        requests=len(turn.latencies),
        errors=turn.errors,
        wrong=turn.wrong,
        seconds=turn.seconds,
        throughput=len(turn.latencies) * batch / turn.seconds,
        mean_ms=float(milliseconds.mean()),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        queue_ms=stats.queue_ns / requests / 1e6,
        compute_ms=(stats.input_ns + stats.infer_ns + stats.output_ns) / requests / 1e6,
        mean_batch=stats.inferences / max(stats.executions, 1),
    )
