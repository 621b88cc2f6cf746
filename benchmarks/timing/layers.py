"""Time of every node of a model, from ONNX Runtime's profiler, and the work of those that multiply matrices."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import EVALUATION, Result, Stopwatch
from photos import read_samples

from timing.loop import timed
from timing.ort import options_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jobs import Job

__all__ = ["run"]

_KERNEL = "_kernel_time"
# What ONNX Runtime's fusions append to the name of a node.
_SUFFIX = re.compile(r"(_token_\d+|_nhwc|_quant|/MatMulAddFusion)+$")


def run(job: Job) -> Result:
    """Profile ``options["file"]``.

    Options: as :func:`timing.ort.run`; the one batch size of ``batches``. Values: ``nodes``, in the order they ran, of

    * name: the node's in the float model, as far as it is known;
    * op: operator type;
    * least_us, median_us: over the runs after the warm-up;
    * layer: whether it is one with weights in the float model;
    * macs: multiplications of 8-bit numbers, batch included; ``None`` where it is no layer;
    * output: shape.
    """
    import onnxruntime as ort

    watch = Stopwatch()
    options = options_of(job)
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(job.out) / "profile")
    session = ort.InferenceSession(job.options["file"], options, providers=["CPUExecutionProvider"])
    (batch,) = job.options["batches"]
    samples = [sample for sample in read_samples(Path(job.samples)) if sample.split == EVALUATION]
    x = np.stack([np.load(samples[i % len(samples)].path) for i in range(batch)])
    name = session.get_inputs()[0].name
    runs = timed(lambda: session.run(None, {name: x}), job.options["seconds"])
    profile = Path(session.end_profiling())
    nodes = _nodes(json.loads(profile.read_text(encoding="utf-8")), len(runs), _layers(job))
    profile.unlink()
    values = {"nodes": nodes, "whole_us": 1e6 * min(runs), "runs": len(runs)}
    return Result(watch.seconds(), watch.libraries_mb, values=values)


def _nodes(events: Iterable[Mapping[str, Any]], runs: int, layers: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            found[event["args"]["node_index"]].append(event)
    return [_node(last[-runs:], layers) for last in found.values()]


def _node(events: list[Mapping[str, Any]], layers: Mapping[str, Any]) -> dict[str, Any]:
    arguments = events[0]["args"]
    name = _SUFFIX.sub("", events[0]["name"].removesuffix(_KERNEL))
    spent = [event["dur"] for event in events]
    output = _shape(arguments["output_type_shape"])
    layer = layers.get(name)
    macs = None
    if layer is not None:
        kind, factor = layer
        # A transposed Conv multiplies every input by so many weights; all else sums so many products an output.
        macs = factor * math.prod(_shape(arguments["input_type_shape"]) if kind == "ConvTranspose" else output)
    return {
        "name": name,
        "op": arguments["op_name"],
        "least_us": min(spent),
        "median_us": statistics.median(spent),
        "layer": layer is not None,
        "macs": macs,
        "output": output,
    }


def _shape(types: list[dict[str, list[int]]]) -> list[int]:
    return next(iter(types[0].values())) if types else []


def _layers(job: Job) -> dict[str, tuple[str, int]]:
    """Operator type and products an output (an input, if transposed) of the layers with weights, by node name."""
    import onnx_ir as ir

    found = {}
    for path in (job.prepared, job.model):
        for node in ir.load(path).graph:
            if node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"} and node.inputs[1] is not None:
                weights = node.inputs[1].const_value
                if weights is not None:
                    products = _products(node, list(weights.shape.numpy()))
                    found[_SUFFIX.sub("", node.name or "")] = (node.op_type, products)
    return found


def _products(node: Any, shape: list[int]) -> int:
    if node.op_type in {"Conv", "ConvTranspose"}:
        return math.prod(shape[1:])
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0)
    return shape[1] if transposed else shape[-2]
