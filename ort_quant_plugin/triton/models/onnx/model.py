"""Runs ``model.onnx`` of its version folder in ONNX Runtime, on servers without the ONNX Runtime backend.

Runs inside Triton's python backend; needs numpy and onnxruntime there. ``config.pbtxt`` says how: the parameters
``intra_op_thread_count`` and ``op_library_filename`` (names beside ``config.pbtxt`` or absolute paths, separated by
colons), and ``optimization { graph { level } }`` as for the ONNX Runtime backend.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # the server provides it

_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}


__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One instance: a session with threads of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; a failure is the reason the server gives for not loading it."""
        _check_exchange()
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"])
        version = folder / args["model_version"]
        self._max_batch = config["max_batch_size"]
        self._session = onnxruntime.InferenceSession(
            str(version / "model.onnx"),  # the default file name of this backend is model.py
            _session_options(config, folder),
            providers=["CPUExecutionProvider"],
        )
        self._outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request; those of one shape are computed together."""
        feeds = [{t.name(): _to_runtime(t.as_numpy()) for t in request.inputs()} for request in requests]
        groups: dict[Any, list[int]] = {}
        for index, feed in enumerate(feeds):
            # Without a batch axis nothing can be joined, and every request is a group of its own.
            key = _shapes(feed) if self._max_batch else index
            groups.setdefault(key, []).append(index)
        responses: list[Any] = [None] * len(requests)
        for members in groups.values():
            for index, answer in zip(members, self._answers([feeds[i] for i in members]), strict=True):
                responses[index] = _response(answer, requests[index].requested_output_names())
        return responses

    def _answers(self, feeds: list[dict[str, Any]]) -> list[Any]:
        """Outputs by name for each feed, or the error that all of them share."""
        if len(feeds) == 1:
            joined = feeds[0]
        else:
            joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        try:
            values = self._session.run(self._outputs, joined)
        except Exception as error:  # ONNX Runtime's exception types are private to its binding
            return [error] * len(feeds)
        outputs = dict(zip(self._outputs, values, strict=True))
        if len(feeds) == 1:
            return [outputs]
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])[:-1]
        parts = {name: np.split(value, ends) for name, value in outputs.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(feeds))]


def _shapes(feed: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(feed.items()))


def _session_options(config: dict[str, Any], folder: Path) -> Any:
    parameters = {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0))
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS.get(level, "ORT_ENABLE_ALL"))
    for library in filter(None, parameters.get("op_library_filename", "").split(":")):
        options.register_custom_ops_library(str(folder / library))  # an absolute path stays what it is
    return options


def _to_runtime(array: Any) -> Any:
    """Text comes as bytes and goes to ONNX Runtime as str."""
    if array.dtype.kind not in "OS":
        return array
    return np.array([item.decode() for item in array.reshape(-1)], dtype=object).reshape(array.shape)


def _from_runtime(array: Any) -> Any:
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array)
    return np.array([str(item).encode() for item in array.reshape(-1)], dtype=object).reshape(array.shape)


def _response(answer: Any, wanted: list[str]) -> Any:
    if isinstance(answer, Exception):
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer)))
    tensors = [pb_utils.Tensor(name, _from_runtime(value)) for name, value in answer.items() if name in wanted]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _check_exchange() -> None:
    """Refuse a numpy the server cannot read: with numpy 2 older servers take zeros in and give nothing out."""
    sent = np.arange(1, 4, dtype=np.float32)
    tensor = pb_utils.Tensor("probe", sent)
    if not np.array_equal(pb_utils.Tensor.from_dlpack("probe", tensor.to_dlpack()).as_numpy(), sent):
        raise RuntimeError(f"this server cannot exchange tensors with numpy {np.__version__}; install numpy<2 for it")
