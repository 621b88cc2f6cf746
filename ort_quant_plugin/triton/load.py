"""Callers that keep a served model busy, time each request and look at each answer."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.address import parse_address
from ort_quant_plugin.triton.answers import Statistics
from ort_quant_plugin.triton.client import connect
from ort_quant_plugin.triton.requests import PlainRequests, SharedRequests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.triton.address import Protocol
    from ort_quant_plugin.triton.client import TritonClient
    from ort_quant_plugin.triton.served import ServedModel

    Array = NDArray[np.generic]
    Arrays = Mapping[str, Array]

__all__ = ["Job", "Turn", "difference", "run_turn"]

_SETTLE = 0.2
"""Seconds of load before a turn that do not count."""
_PAUSE_AFTER_ERROR = 0.05


@dataclass(frozen=True)
class Job:
    """What callers do.

    Attributes:
        url: The server.
        protocol: For an address without a scheme.
        timeout: Seconds to wait for one answer.
        shared_memory: Whether tensors go through shared memory.
        model: The model.
        feeds: The requests.
        expected: The right answer to each.
        check: Whether to compare.
        tolerance: Largest difference that counts as right.
    """

    url: str
    protocol: Protocol | None
    timeout: float
    shared_memory: bool
    model: ServedModel
    feeds: Sequence[Arrays]
    expected: Sequence[Arrays]
    check: bool = True
    tolerance: float = 0.0

    def open(self) -> TritonClient:
        """A connection that does not wait for a server that has gone."""
        return connect(self.url, protocol=self.protocol, timeout=self.timeout, patience=0.0)

    def requests(self, client: TritonClient) -> PlainRequests | SharedRequests:
        """The requests, ready to be sent."""
        if self.shared_memory:
            return SharedRequests(client, self.model, self.feeds, self.expected)
        return PlainRequests(client, self.model, self.feeds, list(self.expected[0]))


@dataclass
class Turn:
    """What callers saw in one stretch of time; turns add up.

    Attributes:
        latencies: Seconds from request to answer.
        seconds: Time under load.
        errors: Requests that failed.
        wrong: Answers that were not the expected ones.
        largest_error: Largest difference; infinite where type, shape or a NaN differ.
        failure: What the first failed request said.
        statistics: What the server counted meanwhile.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    errors: int = 0
    wrong: int = 0
    largest_error: float = 0.0
    failure: str | None = None
    statistics: Statistics = field(default_factory=Statistics)

    def __add__(self, other: Turn) -> Turn:
        return Turn(
            self.latencies + other.latencies,
            self.seconds + other.seconds,
            self.errors + other.errors,
            self.wrong + other.wrong,
            max(self.largest_error, other.largest_error),
            self.failure or other.failure,
            self.statistics + other.statistics,
        )


def difference(expected: Arrays, answer: Arrays) -> float:
    """Largest absolute difference; 0: equal to the bit, infinity: names, types, shapes, text or NaNs differ."""
    if expected.keys() != answer.keys():
        return math.inf
    return max((_difference(expected[name], answer[name]) for name in expected), default=0.0)


def _difference(expected: Array, answer: Array) -> float:
    if expected.dtype != answer.dtype or expected.shape != answer.shape:
        return math.inf
    if expected.dtype == object:
        return 0.0 if np.array_equal(expected, answer) else math.inf
    bits = f"u{expected.dtype.itemsize}"
    one, other = (np.ascontiguousarray(array).reshape(-1) for array in (expected, answer))
    differ = one.view(bits) != other.view(bits)
    if not differ.any():
        return 0.0
    largest = float(np.abs(one[differ].astype(np.float64) - other[differ].astype(np.float64)).max())
    # Zeros of either sign are equal numbers but other bits: they must not pass as exact.
    return math.inf if math.isnan(largest) else max(largest, float(np.finfo(np.float64).tiny))


def run_turn(client: TritonClient, job: Job, callers: int, seconds: float) -> Turn:
    """Keep ``callers`` callers busy for a time.

    Args:
        client: Asks for the statistics.
        job: What they do.
        callers: How many.
        seconds: How long.

    Raises:
        TritonError: A caller could not start.
    """
    ready, go = threading.Barrier(callers + 1), threading.Barrier(callers + 1)
    crew = [_Caller(job, number, seconds, ready, go) for number in range(callers)]
    for caller in crew:
        caller.start()
    try:
        ready.wait()
        before = _statistics(client, job.model)
        go.wait()
    except threading.BrokenBarrierError:
        pass  # a caller could not start: its own error says why
    except BaseException:
        ready.abort()
        go.abort()
        raise
    for caller in crew:
        caller.join()
    for caller in crew:
        if caller.error is not None:
            raise caller.error
    turn = sum((caller.turn for caller in crew), Turn())
    turn.seconds = max(caller.turn.seconds for caller in crew)
    turn.statistics = _statistics(client, job.model) - before
    return turn


def _statistics(client: TritonClient, model: ServedModel) -> Statistics:
    return sum(client.statistics(model.name, model.version).values(), Statistics())


def _end_event_loop() -> None:
    """End the loop that http connections run on in this thread; it would outlive the thread, with its files open."""
    import gevent

    gevent.get_hub().destroy(destroy_loop=True)


class _Caller(threading.Thread):
    """One caller: asks, waits for the answer, asks again."""

    def __init__(self, job: Job, number: int, seconds: float, ready: threading.Barrier, go: threading.Barrier) -> None:
        super().__init__(name=f"ort-quant-caller-{number}", daemon=True)
        self.job, self.seconds = job, seconds
        self.turn = Turn()
        self.error: BaseException | None = None
        self._next = number
        self._barriers = ready, go

    def run(self) -> None:
        """Warm up, wait for the others, measure."""
        ready, go = self._barriers
        try:
            with self.job.open() as client:
                requests = self.job.requests(client)
                try:
                    self._ask_for(requests, _SETTLE, Turn())
                    ready.wait()
                    go.wait()
                    self._ask_for(requests, self.seconds, self.turn)
                finally:
                    requests.close()
        except threading.BrokenBarrierError:
            pass  # somebody else has the error
        except BaseException as error:
            self.error = error  # raised by who waits for this thread
            ready.abort()
            go.abort()
        finally:
            if parse_address(self.job.url, self.job.protocol).protocol == "http":
                _end_event_loop()

    def _ask_for(self, requests: PlainRequests | SharedRequests, seconds: float, turn: Turn) -> None:
        job = self.job
        begin = now = time.perf_counter()
        while now < begin + seconds:
            index = self._next = (self._next + 1) % len(job.feeds)
            try:
                answer = requests.send(index)
            except TritonError as error:
                turn.errors += 1
                turn.failure = turn.failure or error.message
                time.sleep(_PAUSE_AFTER_ERROR)  # a server that has gone needs no more questions
            else:
                turn.latencies.append(time.perf_counter() - now)
                if job.check:
                    self._compare(index, answer, turn)
            now = time.perf_counter()
        turn.seconds = now - begin

    def _compare(self, index: int, answer: Arrays, turn: Turn) -> None:
        error = difference(self.job.expected[index], answer)
        turn.largest_error = max(turn.largest_error, error)
        turn.wrong += error > self.job.tolerance
