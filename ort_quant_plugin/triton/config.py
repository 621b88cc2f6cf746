"""``config.pbtxt``: built as Triton's own protobuf message, so that what is written is what the server reads."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import ConfigError, TritonError, UnsupportedError
from ort_quant_plugin.files import read_text

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions
    from ort_quant_plugin.triton.signature import Dims, Signature, Tensor

__all__ = [
    "CONFIG_NAME",
    "DEFAULT_MAX_BATCH",
    "TYPES",
    "ModelConfig",
    "build_config",
    "common_signature",
    "config_messages",
    "config_text",
    "largest_batch",
    "parse_config",
    "triton_type",
]

CONFIG_NAME = "config.pbtxt"
DEFAULT_MAX_BATCH = 8
"""Largest batch of a model with a free first axis, unless told otherwise."""

TYPES = {
    "BOOL": "TYPE_BOOL",
    "UINT8": "TYPE_UINT8",
    "UINT16": "TYPE_UINT16",
    "UINT32": "TYPE_UINT32",
    "UINT64": "TYPE_UINT64",
    "INT8": "TYPE_INT8",
    "INT16": "TYPE_INT16",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "FLOAT16": "TYPE_FP16",
    "FLOAT": "TYPE_FP32",
    "DOUBLE": "TYPE_FP64",
    "STRING": "TYPE_STRING",
}
"""ONNX element type → Triton's; the ONNX Runtime backend takes no other."""

ModelConfig = Any
"""``tritonclient.grpc.model_config_pb2.ModelConfig``; protobuf messages have no static type here."""


def config_messages() -> Any:
    """Triton's configuration messages.

    Raises:
        TritonError: tritonclient is not installed.
    """
    try:
        return importlib.import_module("tritonclient.grpc.model_config_pb2")
    except ImportError as error:
        raise TritonError(
            f"Triton's configuration schema cannot be imported: {error}.",
            hint="Install it: pip install 'ort-quant-plugin[triton]'.",
        ) from error


def build_config(
    versions: Mapping[int, Signature], options: RepositoryOptions, *, library_paths: Sequence[str] = ()
) -> ModelConfig:
    """Build the configuration of a model.

    Args:
        versions: What its versions are, by number; their inputs and outputs must be the same.
        options: How it is served.
        library_paths: Custom-op libraries as the server finds them.

    Raises:
        ConfigError: The options ask for what the model cannot do, or the versions differ in inputs or outputs.
        UnsupportedError: An input or output has a type Triton's ONNX Runtime backend does not take.
        TritonError: tritonclient is not installed.
    """
    first = common_signature(versions)
    max_batch = largest_batch(versions, options)
    config: ModelConfig = config_messages().ModelConfig(
        name=options.name, backend=options.backend, max_batch_size=max_batch
    )
    for tensor in first.inputs:
        _describe(config.input.add(), tensor, batched=max_batch > 0)
    for tensor in first.outputs:
        _describe(config.output.add(), tensor, batched=max_batch > 0)
    _set_versions(config, versions, options)
    _set_execution(config, versions, options, library_paths)
    if first.is_calibration:
        return config
    if options.dynamic_batching is not None and max_batch > 1:
        _set_batching(config.dynamic_batching, options.dynamic_batching, max_batch)
    if options.warmup:
        _set_warmup(config, first, options, max_batch)
    if options.response_cache:
        config.response_cache.enable = True
    return config


def common_signature(versions: Mapping[int, Signature]) -> Signature:
    """The signature all versions share: one configuration describes them all.

    Raises:
        ConfigError: Two versions differ in the name, type or shape of an input or output.
    """
    number, first = next(iter(sorted(versions.items())))
    for other_number, other in versions.items():
        for what in ("inputs", "outputs"):
            ours, theirs = getattr(first, what), getattr(other, what)
            if ours != theirs:
                raise ConfigError(
                    f"Versions {number} and {other_number} differ in their {what}: "
                    f"{_signature_text(ours)} and {_signature_text(theirs)}; one configuration serves both.",
                    hint="Give the model a name of its own.",
                    versions=(number, other_number),
                )
        if first.is_calibration is not other.is_calibration or (first.is_calibration and len(versions) > 1):
            raise ConfigError(
                "A calibration model cannot share its name with other versions: every run of it is observed.",
                hint="Give the calibration model a name of its own.",
                versions=tuple(versions),
            )
    return first


def _signature_text(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{t.name} {t.dtype}{_shape_text(t.dims)}" for t in tensors)


def _shape_text(dims: Dims) -> str:
    return "[" + ",".join("?" if dim is None else str(dim) for dim in dims) + "]"


def largest_batch(versions: Mapping[int, Signature], options: RepositoryOptions) -> int:
    """``max_batch_size``: what was asked for, if all versions can, else 8 or 0.

    Raises:
        ConfigError: Batches were asked for and a version has a fixed first axis, or is a calibration model.
    """
    for signature in versions.values():
        if options.max_batch and signature.is_calibration:
            raise ConfigError(
                f"max_batch is {options.max_batch}, but {str(signature.path)!r} is a calibration model, which is "
                "served without a batch axis.",
                hint="Leave --max-batch out; requests may hold as many samples as they like.",
                value=options.max_batch,
            )
        if options.max_batch and not signature.batched:
            fixed = [t for t in (*signature.inputs, *signature.outputs) if not t.dims or t.dims[0] is not None]
            raise ConfigError(
                f"max_batch is {options.max_batch}, but the first axis of {_signature_text(fixed[:1])} of "
                f"{str(signature.path)!r} is not free.",
                hint="Export the model with a free batch axis, or leave --max-batch out.",
                value=options.max_batch,
            )
    if options.max_batch is not None:
        return options.max_batch
    return DEFAULT_MAX_BATCH if all(s.batched and not s.is_calibration for s in versions.values()) else 0


def triton_type(dtype: str, name: str) -> str:
    """Triton's name of an ONNX element type.

    Raises:
        UnsupportedError: Triton's ONNX Runtime backend does not take it.
    """
    if dtype not in TYPES:
        raise UnsupportedError(
            f"{name!r} has type {dtype}, which Triton's ONNX Runtime backend does not take.",
            hint="Add a Cast at this input or output of the model.",
            tensor=name,
            value=dtype,
        )
    return TYPES[dtype]


def _describe(entry: Any, tensor: Tensor, *, batched: bool) -> None:
    entry.name = tensor.name
    entry.data_type = config_messages().DataType.Value(triton_type(tensor.dtype, tensor.name))
    dims = [-1 if dim is None else dim for dim in (tensor.dims[1:] if batched else tensor.dims)]
    entry.dims.extend(dims or [1])  # the schema wants at least one axis
    if batched and not dims:
        entry.reshape.SetInParent()  # to nothing but the batch axis
    if tensor.optional:
        entry.optional = True


def _set_versions(config: ModelConfig, versions: Mapping[int, Signature], options: RepositoryOptions) -> None:
    policy = options.version_policy
    if policy == "all":
        config.version_policy.all.SetInParent()
    elif policy.startswith("latest"):
        config.version_policy.latest.num_versions = int(policy.partition(":")[2] or 1)
    else:
        config.version_policy.specific.versions.extend(int(number) for number in policy.split(","))
    for key, value in options.tags.items():
        config.metric_tags[key] = value
    kinds = {signature.precision for signature in versions.values()}
    config.metric_tags["precision"] = (
        kinds.pop()
        if len(kinds) == 1
        else ",".join(f"v{number}:{signature.precision}" for number, signature in sorted(versions.items()))
    )


def _set_execution(
    config: ModelConfig, versions: Mapping[int, Signature], options: RepositoryOptions, library_paths: Sequence[str]
) -> None:
    calibration = any(s.is_calibration for s in versions.values())
    if calibration and options.instances != 1:
        raise ConfigError(
            f"instances is {options.instances}, but a calibration model must have one: each keeps statistics of its "
            "own, and a flush reaches one of them.",
            hint="Leave --instances out; start further servers to share the load, and merge what they return.",
            value=options.instances,
        )
    config.instance_group.add(kind=config_messages().ModelInstanceGroup.KIND_CPU, count=options.instances)
    if options.threads:
        config.parameters["intra_op_thread_count"].string_value = str(options.threads)
    level = options.graph_level
    if level is None and any(s.kind == "fake_quant" for s in versions.values()):
        level = 2
    if level:
        config.optimization.graph.level = level
    if not library_paths:
        return
    if options.backend == "python":
        config.parameters["op_library_filename"].string_value = ":".join(library_paths)
    else:
        config.model_operations.op_library_filename.extend(library_paths)


def _set_batching(entry: Any, batching: DynamicBatching, max_batch: int) -> None:
    over = [size for size in batching.preferred_sizes if size > max_batch]
    if over:
        raise ConfigError(
            f"Preferred batch size {over[0]} is larger than the largest batch, {max_batch}.",
            hint="Raise --max-batch, or leave the size out.",
            value=over[0],
        )
    entry.preferred_batch_size.extend(batching.preferred_sizes)
    entry.max_queue_delay_microseconds = batching.queue_delay_us
    policy = entry.default_queue_policy
    policy.timeout_action = config_messages().ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = batching.timeout_us
    policy.max_queue_size = batching.max_queue_size
    policy.allow_timeout_override = True


def _set_warmup(config: ModelConfig, signature: Signature, options: RepositoryOptions, max_batch: int) -> None:
    """Zeros, in the smallest and the largest batch; none if an input has a free axis of unknown size."""
    sizes: dict[str, tuple[int, ...]] = {}
    for tensor in signature.inputs:
        dims = tensor.dims[1:] if max_batch else tensor.dims
        given = options.shapes.get(tensor.name)
        if given is not None and not _fits(given, dims):
            raise ConfigError(
                f"The shape {list(given)} for input {tensor.name!r} does not fit {_shape_text(dims)}.",
                hint="Give a size for every axis but the batch axis.",
                tensor=tensor.name,
                value=given,
            )
        if given is None and None in dims:
            return
        sizes[tensor.name] = given or tuple(dim for dim in dims if dim is not None)
    for batch in sorted({1, max(max_batch, 1)}):
        sample = config.model_warmup.add(name=f"zeros_batch_{batch}", batch_size=batch)
        for tensor, entry in zip(signature.inputs, config.input, strict=True):
            data = sample.inputs[tensor.name]
            data.data_type = entry.data_type
            data.dims.extend(sizes[tensor.name] or (1,))
            data.zero_data = True


def _fits(given: tuple[int, ...], dims: Dims) -> bool:
    return len(given) == len(dims) and all(
        size > 0 and dim in {None, size} for size, dim in zip(given, dims, strict=True)
    )


def config_text(config: ModelConfig) -> str:
    """The configuration as it stands in ``config.pbtxt``."""
    from google.protobuf import text_format

    text: str = text_format.MessageToString(config, as_utf8=True, use_short_repeated_primitives=True)
    return text


def parse_config(path: str | os.PathLike[str]) -> ModelConfig:
    """Read a ``config.pbtxt``.

    Raises:
        TritonError: The file is missing, or not a model configuration: the message names line and field.
    """
    from google.protobuf import text_format

    path = Path(path)
    text = read_text(path, what="Model configuration", error=TritonError, hint="Write it with 'ort-quant triton new'.")
    try:
        return text_format.Parse(text, config_messages().ModelConfig())
    except text_format.ParseError as error:
        raise TritonError(
            f"{path} is not a model configuration: {error}",
            hint="Compare with Triton's model_config.proto; the number in front is line:column.",
            path=str(path),
        ) from error
