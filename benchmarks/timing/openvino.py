"""OpenVINO, CPU: one stream, so many threads, shapes fixed before compiling, as its guide for least latency says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs import Result, Stopwatch, versions

from timing.loop import measure

if TYPE_CHECKING:
    import numpy as np
    from jobs import Job
    from numpy.typing import NDArray

    from timing.loop import Infer

__all__ = ["run"]


def run(job: Job) -> Result:
    """Time ``options["file"]``; options as :func:`timing.ort.run`."""
    import openvino as ov

    watch = Stopwatch()
    core = ov.Core()
    threads = job.options["threads"]
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
    model = core.read_model(job.options["file"])

    def infer_of(batch: int) -> Infer:
        model.reshape([batch, *job.options["shape"]])
        request = core.compile_model(model, "CPU", settings).create_infer_request()

        def infer(x: NDArray[np.float32]) -> list[Any]:
            request.set_input_tensor(ov.Tensor(x, shared_memory=True))
            request.infer()
            return [output.data for output in request.output_tensors]

        return infer

    return measure(job, watch, infer_of, versions("openvino", "nncf", "numpy"))
