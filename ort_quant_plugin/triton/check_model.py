"""Whether a configuration describes the model it stands beside, by the rules of Triton's ONNX Runtime backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import OrtQuantError, RuntimeMissingError
from ort_quant_plugin.triton.config import TYPES, config_messages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ort_quant_plugin.triton.config import ModelConfig
    from ort_quant_plugin.triton.finding import Findings
    from ort_quant_plugin.triton.releases import Release
    from ort_quant_plugin.triton.signature import Signature, Tensor

__all__ = ["check_advice", "check_release", "check_run", "check_signature", "check_warmup", "full_dims"]

_TRIED_BATCH = 2


def check_signature(config: ModelConfig, signature: Signature, subject: str, findings: Findings) -> None:
    """Compare names, types and shapes.

    Args:
        config: The model's configuration.
        signature: One of its versions.
        subject: What to call this version.
        findings: Receives what is found.
    """
    before = len(findings.found)
    _check_names(config, signature, subject, findings)
    inputs = {tensor.name: tensor for tensor in signature.inputs}
    outputs = {tensor.name: tensor for tensor in signature.outputs}
    for what, entries, tensors in (("Input", config.input, inputs), ("Output", config.output, outputs)):
        for entry in entries:
            if entry.name in tensors:
                _check_tensor(what, entry, tensors[entry.name], config.max_batch_size, subject, findings)
    for entry in config.input:
        if entry.optional and config.max_batch_size:
            findings.error(
                subject,
                f"Input {entry.name!r} is optional, which the backend takes only where max_batch_size is 0.",
                "Set max_batch_size to 0, or make the input required.",
            )
    if len(findings.found) == before:
        count = len(config.input) + len(config.output)
        findings.ok(subject, f"{signature.precision}: {count} inputs and outputs agree with the model.")


def _check_names(config: ModelConfig, signature: Signature, subject: str, findings: Findings) -> None:
    if not config.input and not config.output:
        findings.warning(
            subject,
            "Inputs and outputs are left for the server to fill in; it then also chooses max_batch_size.",
            "Name them, or write the model with 'ort-quant triton new'.",
        )
        return
    for what, entries, tensors in (
        ("input", config.input, signature.inputs),
        ("output", config.output, signature.outputs),
    ):
        names, known = {entry.name for entry in entries}, {tensor.name for tensor in tensors}
        for name in sorted(names - known):
            findings.error(
                subject,
                f"The model has no {what} {name!r}; it has {', '.join(sorted(known))}.",
                "Correct the name in config.pbtxt.",
            )
        required = {tensor.name for tensor in tensors if not tensor.optional}
        if what == "input":
            for name in sorted(required - names):
                findings.error(subject, f"Input {name!r} of the model is not configured.", "Add it to config.pbtxt.")


def full_dims(entry: Any, max_batch: int) -> list[int]:
    """The shape the backend compares with the model's: with the batch axis, and reshaped."""
    dims = list(entry.reshape.shape) if entry.HasField("reshape") else list(entry.dims)
    return [-1, *dims] if max_batch else dims


def _check_tensor(what: str, entry: Any, tensor: Tensor, max_batch: int, subject: str, findings: Findings) -> None:
    wanted, given = TYPES.get(tensor.dtype), config_messages().DataType.Name(entry.data_type)
    if wanted is None:
        findings.error(
            subject, f"{what} {entry.name!r} has type {tensor.dtype}, which the backend does not take.", "Add a Cast."
        )
    elif given != wanted:
        findings.error(subject, f"{what} {entry.name!r} is {given}, but the model has {wanted}.", f"Write {wanted}.")
    dims = [-1 if dim is None else dim for dim in tensor.dims]
    full = full_dims(entry, max_batch)
    if max_batch and (not dims or dims[0] != -1):
        findings.error(
            subject,
            f"max_batch_size is {max_batch}, but the first axis of {what.lower()} {entry.name!r} is not free: {dims}.",
            "Set max_batch_size to 0 and give the whole shape, or export the model with a free batch axis.",
        )
    elif not _same_shape(full, dims, exact=what == "Output"):
        batch = " (with the batch axis)" if max_batch else ""
        findings.error(
            subject,
            f"{what} {entry.name!r} is {full}{batch}, but the model has {dims}.",
            f"Write dims: {dims[1:] if max_batch else dims or [1]}.",
        )


def _same_shape(full: Sequence[int], dims: Sequence[int], *, exact: bool) -> bool:
    """The backend's rule: a free axis of an input may be configured to any size, one of an output may not."""
    if not dims:
        return all(size == 1 for size in full)
    return len(full) == len(dims) and all(
        given == size or (size == -1 and not exact) for given, size in zip(full, dims, strict=True)
    )


def check_release(signature: Signature, release: Release, subject: str, findings: Findings) -> None:
    """Whether the ONNX Runtime of a Triton release is new enough for the model file."""
    for what, has, limit in (
        ("operator set", signature.opset, release.opset),
        ("IR version", signature.ir_version, release.ir_version),
    ):
        if has > limit:
            findings.error(
                subject,
                f"The model has {what} {has}; ONNX Runtime {release.onnxruntime} of Triton {release.name} takes up to "
                f"{limit}.",
                "Use a newer release, or export the model for an older one.",
            )


def check_advice(config: ModelConfig, signatures: Sequence[Signature], findings: Findings) -> None:
    """What loads, but answers otherwise than promised or hurts in production."""
    groups = list(config.instance_group)
    count = sum(group.count or 1 for group in groups) or 2
    if not groups:
        findings.warning(
            "instances",
            "No instance_group: the server makes two instances on a CPU, one on every GPU.",
            "Write instance_group { kind: KIND_CPU count: 1 }.",
        )
    parameters = config.parameters
    threads = parameters["intra_op_thread_count"].string_value if "intra_op_thread_count" in parameters else "0"
    if threads in {"", "0"} and count > 1:
        findings.warning(
            "threads",
            f"Each of {count} instances starts one thread a core.",
            "Set the parameter intra_op_thread_count to cores / instances.",
        )
    if any(s.kind == "fake_quant" for s in signatures) and config.optimization.graph.level != 2:
        findings.warning(
            "optimization",
            "A fake_quant model with graph optimization may differ from the int8 model in the last bit.",
            "Write optimization { graph { level: 2 } }.",
        )
    if any(s.is_calibration for s in signatures):
        _check_calibration(config, count, findings)


def _check_calibration(config: ModelConfig, count: int, findings: Findings) -> None:
    for wrong, message in (
        (count > 1, f"{count} instances keep statistics apart; a flush reaches one of them"),
        (len(config.model_warmup) > 0, "warm-up runs are observed as if they were data"),
        (config.response_cache.enable, "cached answers are not observed"),
    ):
        if wrong:
            findings.error("calibration", f"In a calibration model {message}.", "Write it with 'ort-quant triton new'.")


def check_warmup(config: ModelConfig, folder: Path, findings: Findings) -> None:
    """Compare the warm-up samples with the inputs."""
    names = {entry.name for entry in config.input}
    for sample in config.model_warmup:
        subject = f"warm-up {sample.name!r}"
        required = {entry.name for entry in config.input if not entry.optional}
        for name in sorted((set(sample.inputs) - names) | (required - set(sample.inputs))):
            known = "is not configured" if name not in names else "is missing"
            findings.error(subject, f"Input {name!r} {known}.", "Give every configured input, and no other.")
        if sample.batch_size > max(config.max_batch_size, 1):
            findings.error(
                subject, f"Its batch size {sample.batch_size} is over the limit {config.max_batch_size}.", "Lower it."
            )
        for name, data in sample.inputs.items():
            if any(size < 1 for size in data.dims):
                findings.error(subject, f"Input {name!r} has sizes {list(data.dims)}.", "Give sizes of at least 1.")
            if data.input_data_file and not (folder / "warmup" / data.input_data_file).is_file():
                findings.error(subject, f"warmup/{data.input_data_file} does not exist.", "Add the file.")


def check_run(
    config: ModelConfig, signature: Signature, libraries: Sequence[Path], subject: str, findings: Findings
) -> None:
    """Load the model as the server would and run zeros through it: the only sure check of what the shapes promise.

    Without effect where ONNX Runtime is not installed, where an input has a free axis of unknown size, and for
    calibration models, which would observe the zeros.
    """
    import numpy as np

    from ort_quant_plugin.triton.local import LocalModel

    batch = min(_TRIED_BATCH, config.max_batch_size) or None
    sizes = {name: tuple(data.dims) for sample in config.model_warmup for name, data in sample.inputs.items()}
    feed = {}
    for tensor in signature.inputs:
        dims = sizes.get(tensor.name, tensor.dims[1:] if batch else tensor.dims)
        if signature.is_calibration or any(size is None or size < 1 for size in dims):
            return
        shape = [*([batch] if batch else []), *dims][: len(tensor.dims)]  # warm-up gives a scalar one axis
        feed[tensor.name] = np.full(shape, "" if tensor.dtype == "STRING" else 0, _numpy_type(tensor.dtype))
    try:
        model = LocalModel(signature.path, config, libraries)
        answers = model.run(feed, [tensor.name for tensor in signature.outputs])
    except RuntimeMissingError:
        return
    except OrtQuantError as error:
        findings.error(subject, error.message, error.hint)
        return
    _check_answers(config, answers, batch, subject, findings)


def _check_answers(
    config: ModelConfig, answers: dict[str, Any], batch: int | None, subject: str, findings: Findings
) -> None:
    before = len(findings.found)
    for entry in config.output:
        if entry.name not in answers:
            continue  # reported already
        shape = list(answers[entry.name].shape)
        full = full_dims(entry, config.max_batch_size)
        if batch:
            full[0] = batch
        if not _same_shape(shape if shape else full, full if shape else [], exact=False):
            findings.error(
                subject,
                f"Output {entry.name!r} comes out as {shape}, where the configuration says {full}"
                + (f" for a batch of {batch}: answers of joined requests would be mixed up." if batch else "."),
                "Set max_batch_size to 0 and give the whole shape." if batch else "Correct dims.",
            )
    if len(findings.found) == before:
        findings.ok(subject, "Runs in ONNX Runtime on this machine" + (f", batch {batch}." if batch else "."))


def _numpy_type(dtype: str) -> Any:
    import onnx_ir as ir

    return object if dtype == "STRING" else ir.DataType[dtype].numpy()
