"""ONNX Runtime, CPU: a session with so many threads and nothing else in the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs import Result, Stopwatch, versions

from timing.loop import measure

if TYPE_CHECKING:
    import onnxruntime
    from jobs import Job

__all__ = ["options_of", "run"]


def run(job: Job) -> Result:
    """Time ``options["file"]``.

    Options: those of :func:`timing.loop.measure`, ``threads``, ``custom_ops`` (register ours), ``optimize``.
    """
    import onnxruntime as ort

    watch = Stopwatch()
    session = ort.InferenceSession(job.options["file"], options_of(job), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return measure(job, watch, lambda _batch: lambda x: session.run(None, {name: x}), versions("onnxruntime", "numpy"))


def options_of(job: Job) -> onnxruntime.SessionOptions:
    """Session options of a job: one operator at a time, on so many threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job.options["threads"]
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if job.options["optimize"] else level.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if job.options["custom_ops"]:
        import ort_quant_plugin as oq

        oq.register_custom_ops(options)
    return options
