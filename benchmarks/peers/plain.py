"""The yardstick: float inference of the same samples, which every calibration contains at least once."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from jobs import Result, Stopwatch, versions
from photos import calibration_samples

if TYPE_CHECKING:
    from jobs import Job

__all__ = ["run"]


def run(job: Job) -> Result:
    """Time decoding and inference together, then inference alone with the samples in memory."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    watch = Stopwatch()
    session = ort.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    loaded = watch.seconds()
    for sample in calibration_samples(job):
        session.run(None, {name: sample})
    seconds = watch.seconds() - loaded
    # The second half keeps every decoded sample; that memory is not part of plain inference.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    samples = list(calibration_samples(job))
    started = time.perf_counter()
    for sample in samples:
        session.run(None, {name: sample})
    in_memory = time.perf_counter() - started
    return Result(
        seconds=seconds,
        libraries_mb=watch.libraries_mb,
        parts={"session": loaded, "in_memory": in_memory},
        versions=versions("onnxruntime", "numpy", "pillow"),
        peak_mb=peak_mb,
    )
