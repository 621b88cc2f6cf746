"""Stand-in for Triton's ONNX Runtime backend, for the development server.

Triton runs this file for every model that says ``backend: "onnxruntime"`` (or ``platform: "onnxruntime_onnx"``) when it
lies in ``<backends>/onnxruntime/`` and no ``libtriton_onnxruntime.so`` does. It reads the fields of
``config.pbtxt`` that the C++ backend reads, hands the same libraries to ONNX Runtime in the same way, and refuses the
same models, so a repository that works here works there. It is slower: tensors cross into another process. Not for
production.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # the server provides it

__all__ = ["TritonPythonModel"]

_DEFAULT_MAX_BATCH = 4  # what the C++ backend fills in for a model that can be batched
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float": "TYPE_FP32",
    "double": "TYPE_FP64",
    "string": "TYPE_STRING",
}
_TRUE, _FALSE = {"1", "true", "on"}, {"0", "false", "off"}


class TritonPythonModel:
    """One instance of a model, as Triton's python backend wants it."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill in what ``config.pbtxt`` leaves out; a configuration that names inputs and outputs stays as it is."""
        known = config.as_dict()
        if known.get("input") and known.get("output"):
            return config
        session = _open(known, _model_file(Path(pb_utils.get_model_dir()), known))
        tensors = [*session.get_inputs(), *session.get_outputs()]
        batched = all(_dims(tensor)[:1] == [-1] for tensor in tensors)
        size = known.get("max_batch_size", 0)
        if size and not batched:
            raise _refusal(f"model '{known['name']}' cannot be batched, but its max_batch_size is {size}")
        if batched:
            size = size or _DEFAULT_MAX_BATCH
            config.set_max_batch_size(size)
            if size > 1 and "dynamic_batching" not in known and "sequence_batching" not in known:
                config.set_dynamic_batching()
        if not known.get("input"):
            for tensor in session.get_inputs():
                config.add_input(_described(tensor, batched=batched))
        if not known.get("output"):
            for tensor in session.get_outputs():
                config.add_output(_described(tensor, batched=batched))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session and hold the configuration against the model."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = _open(config, _model_file(folder, config))
        self.batched = config["max_batch_size"] > 0
        self.outputs = [output["name"] for output in config["output"]]
        _check_inputs(config, self.session)
        _check_outputs(config, self.session)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests: those whose tensors fit together in one run."""
        feeds = [{tensor.name(): _from_wire(tensor.as_numpy()) for tensor in request.inputs()} for request in requests]
        responses: list[Any] = [None] * len(requests)
        keys = [_shape_key(feed) if self.batched else (index,) for index, feed in enumerate(feeds)]
        order = sorted(range(len(requests)), key=keys.__getitem__)
        for _, found in groupby(order, key=keys.__getitem__):
            group = list(found)
            for index, response in zip(
                group, self._run([requests[i] for i in group], [feeds[i] for i in group]), strict=True
            ):
                responses[index] = response
        return responses

    def _run(self, requests: list[Any], feeds: list[dict[str, Any]]) -> list[Any]:
        try:
            joined = (
                {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]} if feeds[1:] else feeds[0]
            )
            arrays = self.session.run(self.outputs, joined)
            parts = [self._split(array, feeds) for array in arrays]
        except Exception as error:  # whatever the runtime or an operator says goes to the client; the server lives
            failure = pb_utils.TritonError(f"onnx runtime error: {error}")
            return [pb_utils.InferenceResponse(output_tensors=[], error=failure) for _ in requests]
        return [self._response(request, [part[i] for part in parts]) for i, request in enumerate(requests)]

    def _split(self, array: Any, feeds: list[dict[str, Any]]) -> list[Any]:
        if not feeds[1:]:
            return [array]
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        if array.ndim == 0 or len(array) != sum(sizes):
            raise ValueError(f"an output of shape {list(array.shape)} cannot be shared by requests of sizes {sizes}")
        return np.split(array, np.cumsum(sizes)[:-1])

    def _response(self, request: Any, arrays: list[Any]) -> Any:
        wanted = set(request.requested_output_names())
        named = zip(self.outputs, arrays, strict=True)
        tensors = [pb_utils.Tensor(name, _to_wire(array)) for name, array in named if not wanted or name in wanted]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _open(config: dict[str, Any], path: Path) -> Any:
    """Open the session that the configuration asks for."""
    import onnxruntime as ort  # not needed, and slow, where there is nothing to auto-complete

    name = config.get("name", path)
    if not path.is_file():
        raise _refusal(f"unable to find '{path}' for model instance '{name}'")
    level = ort.GraphOptimizationLevel
    levels = {-1: level.ORT_ENABLE_BASIC, 1: level.ORT_ENABLE_EXTENDED, 2: level.ORT_DISABLE_ALL}
    parameters = {key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    chosen = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = levels.get(chosen, level.ORT_ENABLE_ALL)
    options.intra_op_num_threads = max(0, _integer(parameters, "intra_op_thread_count"))
    options.inter_op_num_threads = max(0, _integer(parameters, "inter_op_thread_count"))
    mode = _integer(parameters, "execution_mode")
    if mode not in {0, 1}:
        raise _refusal(f"model '{name}': parameter execution_mode is {mode}; expected 0 or 1")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = _boolean(parameters, "enable_mem_arena")
    options.enable_mem_pattern = _boolean(parameters, "enable_mem_pattern")
    try:
        for library in config.get("model_operations", {}).get("op_library_filename", []):
            options.register_custom_ops_library(library)
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exception types are private to its binding
        raise _refusal(f"onnx runtime error: {error}") from None


def _model_file(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / (config.get("default_model_filename") or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path


def _integer(parameters: dict[str, str], name: str) -> int:
    text = parameters.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise _refusal(f"parameter {name} is '{text}'; expected an integer") from None


def _boolean(parameters: dict[str, str], name: str) -> bool:
    text = parameters.get(name, "1").lower()
    if text not in _TRUE | _FALSE:
        raise _refusal(f"parameter {name} is '{text}'; expected true or false")
    return text in _TRUE


def _check_inputs(config: dict[str, Any], session: Any) -> None:
    name, batch = config["name"], config["max_batch_size"]
    required = {tensor.name: tensor for tensor in session.get_inputs()}
    known = required | {tensor.name: tensor for tensor in session.get_overridable_initializers()}
    expected = sum(not entry.get("optional", False) for entry in config["input"])
    if expected != len(required):
        raise _refusal(
            f"unable to load model '{name}', configuration expects {expected} inputs, model provides {len(required)}"
        )
    for entry in config["input"]:
        if entry.get("optional", False) and batch:
            raise _refusal(
                f"unable to load model '{name}', optional input '{entry['name']}' is not supported for models that "
                "support batching"
            )
        if entry["name"] not in known:
            raise _refusal(
                f"unexpected inference input '{entry['name']}', allowed inputs are: {', '.join(sorted(known))}"
            )
        _check_tensor(config, "input", entry, known[entry["name"]])


def _check_outputs(config: dict[str, Any], session: Any) -> None:
    known = {tensor.name: tensor for tensor in session.get_outputs()}
    for entry in config["output"]:
        if entry["name"] not in known:
            raise _refusal(
                f"unexpected inference output '{entry['name']}', allowed outputs are: {', '.join(sorted(known))}"
            )
        _check_tensor(config, "output", entry, known[entry["name"]])


def _check_tensor(config: dict[str, Any], kind: str, entry: dict[str, Any], tensor: Any) -> None:
    name, batch = config["name"], config["max_batch_size"]
    provided, shape = _data_type(tensor), _dims(tensor)
    if entry["data_type"] != provided:
        raise _refusal(
            f"unable to load model '{name}', configuration expects datatype {entry['data_type']} for {kind} "
            f"'{entry['name']}', model provides {provided}"
        )
    dims = [int(dim) for dim in entry.get("reshape", {}).get("shape", entry["dims"])]
    if batch and shape[:1] != [-1]:
        raise _refusal(
            f"model '{name}', tensor '{entry['name']}': for the model to support batching the shape should have at "
            f"least 1 dimension and the first dimension must be -1; but shape expected by the model is {shape}"
        )
    if not shape:  # a scalar, which a configuration can only write as [1]
        shape = [1] * len(dims)
    full = [-1, *dims] if batch else dims
    # An input's free dimension may be pinned by the configuration; what an output may be must be told as it is.
    agree = [model == given or (kind == "input" and model == -1) for model, given in zip(shape, full, strict=False)]
    if len(shape) != len(full) or not all(agree):
        raise _refusal(
            f"model '{name}', tensor '{entry['name']}': the model expects {len(shape)} dimensions (shape {shape}) but "
            f"the model configuration specifies {len(full)} dimensions (shape {full}"
            f"{', the first of them the batch because max_batch_size > 0' if batch else ''})"
        )


def _described(tensor: Any, *, batched: bool) -> dict[str, Any]:
    dims = _dims(tensor)[1:] if batched else _dims(tensor)
    entry: dict[str, Any] = {"name": tensor.name, "data_type": _data_type(tensor), "dims": dims or [1]}
    if not dims and batched:
        entry["reshape"] = {"shape": []}
    return entry


def _data_type(tensor: Any) -> str:
    kind, _, element = tensor.type.partition("(")
    data_type = _TYPES.get(element.rstrip(")"))
    if kind != "tensor" or data_type is None:
        raise _refusal(f"'{tensor.name}' is of ONNX type {tensor.type}, which Triton has no data type for")
    return data_type


def _dims(tensor: Any) -> list[int]:
    return [dim if isinstance(dim, int) else -1 for dim in tensor.shape]


def _shape_key(feed: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, array.shape[1:]) for name, array in sorted(feed.items()))


def _from_wire(array: Any) -> Any:
    """Triton's strings are bytes, ONNX Runtime's are text."""
    if array.dtype != np.object_:
        return array
    texts = [item.decode("utf-8") if isinstance(item, bytes) else item for item in array.ravel()]
    return np.array(texts, dtype=np.object_).reshape(array.shape)


def _to_wire(array: Any) -> Any:
    if array.dtype.kind not in "OU":
        return array
    return np.array([str(item).encode("utf-8") for item in array.ravel()], dtype=np.object_).reshape(array.shape)


def _refusal(text: str) -> Exception:
    refusal: Exception = pb_utils.TritonModelException(text)
    return refusal
