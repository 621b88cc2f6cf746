"""What a Triton server says about its models."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["ModelState", "Statistics", "read_statistics"]


@dataclass(frozen=True)
class ModelState:
    """One version of a model in the server's repository.

    Attributes:
        name: The model.
        version: Version folder; empty for a model that never loaded.
        state: ``READY``, ``UNAVAILABLE``, ``LOADING``, ``UNLOADING`` or empty (never loaded).
        reason: Why it is not ready.
    """

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True)
class Statistics:
    """What the server counted for one version of a model since it was loaded; differences are those of a time span.

    Attributes:
        inferences: Samples: a request of batch 8 counts 8.
        executions: Runs of the model; ``inferences / executions`` is the mean batch.
        requests: Requests that succeeded.
        failures: Requests that failed.
        queue_ns: Nanoseconds these requests waited, summed over requests, as all times here.
        input_ns: Nanoseconds spent on gathering inputs.
        infer_ns: Nanoseconds in the model.
        output_ns: Nanoseconds spent on handing out outputs.
    """

    inferences: int = 0
    executions: int = 0
    requests: int = 0
    failures: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    def __sub__(self, earlier: Statistics) -> Statistics:
        return Statistics(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def read_statistics(entry: Any) -> Statistics:
    """Statistics from a ``ModelStatistics`` message."""
    stats = entry.inference_stats
    return Statistics(
        inferences=entry.inference_count,
        executions=entry.execution_count,
        requests=stats.success.count,
        failures=stats.fail.count,
        queue_ns=stats.queue.ns,
        input_ns=stats.compute_input.ns,
        infer_ns=stats.compute_infer.ns,
        output_ns=stats.compute_output.ns,
    )
