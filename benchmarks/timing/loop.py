"""What every engine shares: the clock around one inference, the memory of the process, the outputs for the judge."""

from __future__ import annotations

import functools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import EVALUATION, Result
from photos import calibration_samples, read_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs import Job, Stopwatch
    from numpy.typing import NDArray

    Infer = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]

__all__ = ["least_runs", "measure", "timed"]

_LEAST_RUNS = 5
_WARM_UP = 0.2  # of the time to measure: caches, clock rate, the memory arena, the pool's threads


def least_runs(seconds: float) -> int:
    """Runs that are made however long they take."""
    return _LEAST_RUNS if seconds else 1


def timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each run: for so long, after a warm-up."""
    _repeat(run, seconds * _WARM_UP, 2)
    return _repeat(run, seconds, least_runs(seconds))


def _repeat(run: Callable[[], object], seconds: float, least: int) -> list[float]:
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while len(spent) < least or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        spent.append(time.perf_counter() - started)
    return spent


def measure(job: Job, watch: Stopwatch, infer_of: Callable[[int], Infer], packages: dict[str, str]) -> Result:
    """Time every batch size; read the memory after the first, before anything else is loaded.

    Options: ``batches``, ``seconds`` (a batch size), ``outputs`` (whether to keep the answers to all samples).

    Args:
        job: What to do.
        watch: Started when the libraries were loaded and before the model was.
        infer_of: Makes the function that runs one batch of that size, warm or not.
        packages: Versions.
    """
    samples = [sample for sample in read_samples(Path(job.samples)) if sample.split == EVALUATION]
    memory: dict[str, float] = {}
    parts: dict[str, float] = {}
    every: dict[str, list[float]] = {}
    answers: dict[str, Any] = {}
    for batch in job.options["batches"]:
        infer = infer_of(batch)
        chosen = [np.load(samples[i % len(samples)].path) for i in range(batch)]
        x = np.ascontiguousarray(np.stack(chosen))
        spent = timed(functools.partial(infer, x), job.options["seconds"])
        memory = memory or _memory()
        parts[f"batch{batch}"] = statistics.median(spent)
        every[str(batch)] = spent
        if job.options["outputs"]:
            answers |= _answers(infer, job, batch)
    if answers:
        np.savez(Path(job.out) / "outputs.npz", **answers)
    values = {"runs": every, "resident_mb": memory["VmRSS"]}
    return Result(watch.seconds(), watch.libraries_mb, parts, {}, packages, memory["VmHWM"], values)


def _answers(infer: Infer, job: Job, batch: int) -> dict[str, NDArray[np.float32]]:
    """All outputs for all samples that fill a batch, by ``b<batch>_<output>``."""
    import dataclasses

    rows: list[list[NDArray[np.float32]]] = []
    waiting: list[NDArray[np.float32]] = []
    for sample in calibration_samples(dataclasses.replace(job, split=EVALUATION)):
        waiting.append(sample)
        if len(waiting) == batch:
            rows.append([np.array(y) for y in infer(np.concatenate(waiting))])
            waiting = []
    return {f"b{batch}_{i}": np.concatenate(parts) for i, parts in enumerate(zip(*rows, strict=True))}


def _memory() -> dict[str, float]:
    """Resident memory (MiB) of this process now and at most so far."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}
