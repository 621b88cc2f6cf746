"""Run a model over stored samples and store its outputs: one job in a process of its own.

It is run as a script, under any instruction set and by any Python that has numpy and ONNX Runtime; it must import
nothing else, and nothing of this package. The job file tells what to do::

    {"model": "net.onnx", "libraries": ["libort_quant_ops.so"], "threads": 1, "level": "all", "outputs": ["logits"],
     "inputs": ["image"], "feeds": ["0.npz", …], "results": ["0-out.npz", …], "environment": "environment.json"}

Arrays are stored by position (``arr_0`` …), because names of tensors are no names of files.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any

__all__ = ["LEVELS", "main"]

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
"""Graph optimization levels by the names gates use."""


def main(job_path: str) -> None:
    """Do the job a file describes."""
    import numpy as np
    import onnxruntime

    with open(job_path, encoding="utf-8") as stream:  # noqa: PTH123  (as plain as the rest of the script)
        job = json.load(stream)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[job["level"]])
    options.log_severity_level = 4
    for library in job["libraries"]:
        options.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    for feed_path, result_path in zip(job["feeds"], job["results"]):  # noqa: B905  (no strict= before Python 3.10)
        with np.load(feed_path, allow_pickle=False) as feed:
            inputs = {name: feed[f"arr_{index}"] for index, name in enumerate(job["inputs"])}
        np.savez(result_path, *(_storable(value) for value in session.run(job["outputs"], inputs)))
    facts = {
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "isa": os.environ.get("ORT_QUANT_ISA", ""),
    }
    with open(job["environment"], "w", encoding="utf-8") as stream:  # noqa: PTH123
        json.dump(facts, stream)


def _storable(value: Any) -> Any:
    """An array of numbers as it is; anything else (a sequence, strings) leaves an empty list instead."""
    return value if getattr(getattr(value, "dtype", None), "kind", "O") in "biufV" else []


if __name__ == "__main__":
    main(sys.argv[1])
