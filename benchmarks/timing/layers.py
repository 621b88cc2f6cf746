"""Time of every node of a model, from ONNX Runtime's profiler, and the work of those that multiply matrices."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import EVALUATION, Result, Stopwatch
from photos import read_samples

from timing.loop import timed
from timing.ort import options_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobs import Job

__all__ = ["Stage", "chain_macs", "chains_of", "run"]

_KERNEL = "_kernel_time"
# What ONNX Runtime's fusions append to the name of a node.
_SUFFIX = re.compile(r"(_token_\d+|_nhwc|_quant|/MatMulAddFusion)+$")


def run(job: Job) -> Result:
    """Profile ``options["file"]``.

    Options: as :func:`timing.ort.run`; the one batch size of ``batches``. Values: ``nodes``, in the order they ran, of

    * name: the node's in the float model, as far as it is known;
    * op: operator type;
    * least_us, median_us: over the runs after the warm-up;
    * layers: names of the layers with weights in the float model that it computes, mostly one or none;
    * macs: multiplications of 8-bit numbers, batch included; ``None`` where it computes none;
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
    events = json.loads(profile.read_text(encoding="utf-8"))
    nodes = _nodes(events, len(runs), _layers(job), chains_of(Path(job.options["file"])))
    profile.unlink()
    values = {"nodes": nodes, "whole_us": 1e6 * min(runs), "runs": len(runs)}
    return Result(watch.seconds(), watch.libraries_mb, values=values)


def _nodes(
    events: Iterable[Mapping[str, Any]], runs: int, layers: Mapping[str, Any], chains: Mapping[str, Sequence[Stage]]
) -> list[dict[str, Any]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            found[event["args"]["node_index"]].append(event)
    return [_node(last[-runs:], layers, chains) for last in found.values()]


def _node(
    events: list[Mapping[str, Any]], layers: Mapping[str, Any], chains: Mapping[str, Sequence[Stage]]
) -> dict[str, Any]:
    arguments = events[0]["args"]
    name = _SUFFIX.sub("", events[0]["name"].removesuffix(_KERNEL))
    spent = [event["dur"] for event in events]
    output, sizes = _shape(arguments["output_type_shape"]), _shape(arguments["input_type_shape"])
    found, macs = [], None
    if name in chains:
        found, macs = [stage.layer for stage in chains[name]], chain_macs(chains[name], sizes)
    elif (layer := layers.get(name)) is not None:
        kind, factor = layer
        # A transposed Conv multiplies every input by so many weights; all else sums so many products an output.
        found, macs = [name], factor * math.prod(sizes if kind == "ConvTranspose" else output)
    return {
        "name": name,
        "op": arguments["op_name"],
        "least_us": min(spent),
        "median_us": statistics.median(spent),
        "layers": found,
        "macs": macs,
        "output": output,
    }


def _shape(types: list[dict[str, list[int]]]) -> list[int]:
    return next(iter(types[0].values())) if types else []


@dataclass(frozen=True)
class Stage:
    """A convolution of a QConvChain node: its layer in the float model, weights and window."""

    layer: str
    weights: Sequence[int]
    window: Mapping[str, Any]


def chains_of(path: Path) -> dict[str, list[Stage]]:
    """The stages of the QConvChain nodes of a model, by node name."""
    import onnx_ir as ir

    found = {}
    for node in ir.load(path).graph:
        if node.op_type == "QConvChain":
            # The chain, which has the name of its last layer, tells the others from there to the front.
            names = json.loads(node.metadata_props["ort_quant.original_names"])[::-1]
            found[_SUFFIX.sub("", node.name or "")] = [
                Stage(
                    _SUFFIX.sub("", name),
                    [int(size) for size in node.inputs[1 + 4 * number].shape],
                    {
                        attribute.removeprefix(f"stage{number}_"): entry.value
                        for attribute, entry in node.attributes.items()
                        if attribute.startswith(f"stage{number}_")
                    },
                )
                for number, name in enumerate(names)
            ]
    return found


def chain_macs(stages: Sequence[Stage], x: Sequence[int]) -> int:
    """Multiplications of a chain on maps [N, H, W, C]: only the last layer's output is seen from outside."""
    batch, *sizes, _ = x
    total = 0
    for stage in stages:
        sizes = [_positions(stage, axis, size) for axis, size in enumerate(sizes)]
        total += batch * math.prod(sizes) * math.prod(stage.weights)
    return total


def _positions(stage: Stage, axis: int, size: int) -> int:
    """How often the kernel fits, as ONNX's Conv says."""
    window, padding = stage.window, stage.window.get("auto_pad", "NOTSET")
    stride = window.get("strides", [1, 1])[axis]
    if padding.startswith("SAME"):
        return -(-size // stride)
    pads = window.get("pads", [0] * 4) if padding == "NOTSET" else [0] * 4
    reach = (stage.weights[2 + axis] - 1) * window.get("dilations", [1, 1])[axis] + 1
    return (size + pads[axis] + pads[2 + axis] - reach) // stride + 1


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
