"""What Triton must know of a model: its inputs and outputs as ONNX Runtime sees them, and what it needs to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ModelError, OrtQuantError, RuntimeMissingError, UnsupportedError
from ort_quant_plugin.ops.library import DEPLOY_LIBRARY_NAME, DOMAIN, DOMAIN_FP16, DOMAIN_INT8, LIBRARY_NAME

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    import onnx_ir as ir

__all__ = ["Signature", "Tensor", "read_signature"]

_OUR_DOMAINS = frozenset({DOMAIN, DOMAIN_FP16, DOMAIN_INT8, "ort_quant"})
_KNOWN_DOMAINS = _OUR_DOMAINS | {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
_PRECISIONS = {
    "fake_quant": "fake_quant",
    "ort": "int8-ort",
    "qdq": "int8-qdq",
    "deploy": "int8-deploy",
    "calibration": "calibration",
}

Dims = tuple["int | None", ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: Its name.
        dtype: ONNX element type, such as ``FLOAT``.
        dims: Sizes, ``None`` for a free axis; with the batch axis.
        optional: Whether a caller may leave it out (an input with a default).
    """

    name: str
    dtype: str
    dims: Dims
    optional: bool = False


@dataclass(frozen=True)
class Signature:
    """What serving needs to know of a model.

    Attributes:
        path: The file.
        kind: ``float``, ``calibration``, ``fake_quant``, ``deploy``, ``ort`` or ``qdq``.
        precision: ``fp32``, ``fp16``, ``fake_quant``, ``int8-ort``, ``int8-qdq``, ``int8-deploy`` or ``calibration``.
        inputs: What a caller feeds, in order.
        outputs: What the model answers, in order.
        batched: Whether the first axis of every input and output is free.
        libraries: Our libraries the model needs, in the order to register them; empty for standard operators.
        foreign_domains: Operator domains that neither ONNX Runtime nor our libraries implement.
        external_files: Files with tensor data, relative to the model's folder.
        opset: Version of the default operator set.
        ir_version: Version of the ONNX file format.
    """

    path: Path
    kind: str
    precision: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool
    libraries: tuple[str, ...]
    foreign_domains: tuple[str, ...]
    external_files: tuple[str, ...]
    opset: int
    ir_version: int

    @property
    def is_calibration(self) -> bool:
        """Whether it is a calibration model: every run, warm-up too, is observed."""
        return self.kind == "calibration"


def read_signature(path: str | os.PathLike[str], op_libraries: Sequence[str] = ()) -> Signature:
    """Read what serving needs to know of a model.

    Triton's backend compares the configured output shapes with those ONNX Runtime infers, so these count where ONNX
    Runtime is installed and can load the model; else what the file declares.

    Args:
        path: The model.
        op_libraries: Libraries of further custom operators the model uses.

    Raises:
        ModelError: The file cannot be read, or the shape of an input or output is not known.
        UnsupportedError: An input or output is no dense tensor, or its data files lie outside the model's folder.
    """
    from ort_quant_plugin.inspection import model_kind
    from ort_quant_plugin.model import default_opset, read_model

    path = Path(path)
    model = read_model(path)
    kind = model_kind(model)
    domains = _domains(model)
    inferred = {} if kind == "calibration" else _inferred_outputs(path, kind, op_libraries)
    inputs = tuple(_inputs(model, path))
    outputs = tuple(_tensor(value, path, inferred.get(str(value.name))) for value in model.graph.outputs)
    return Signature(
        path=path,
        kind=kind,
        precision=_PRECISIONS.get(kind) or _float_precision(model),
        inputs=inputs,
        outputs=outputs,
        batched=_is_batched(inputs, outputs),
        libraries=_libraries(kind, domains),
        foreign_domains=tuple(sorted(domains - _KNOWN_DOMAINS - {f.domain for f in model.functions.values()})),
        external_files=tuple(_external_files(model, path)),
        opset=default_opset(model),
        ir_version=model.ir_version,
    )


def _inputs(model: ir.Model, path: Path) -> Iterable[Tensor]:
    from ort_quant_plugin.passes.insert_observers import FLUSH

    for value in model.graph.inputs:
        if value.name == FLUSH:  # the one input with a default that callers are meant to know
            yield Tensor(FLUSH, "BOOL", (1,), optional=value.is_initializer())
        elif not value.is_initializer():
            yield _tensor(value, path, None)


def _tensor(value: ir.Value, path: Path, inferred: Dims | None) -> Tensor:
    import onnx_ir as ir

    if not isinstance(value.type, ir.TensorType):
        raise UnsupportedError(
            f"{value.name!r} of {str(path)!r} is no dense tensor; Triton serves nothing else.",
            hint="Export the model without sequences, maps and optional values at its inputs and outputs.",
            path=str(path),
            tensor=value.name,
        )
    declared = None if value.shape is None else tuple(_dimension(dim) for dim in value.shape)
    # ONNX Runtime shows a tensor of unknown rank as one without axes.
    dims = inferred if inferred or declared is None else declared
    if dims is None or (not dims and declared is None):
        raise ModelError(
            f"The number of axes of {value.name!r} of {str(path)!r} is not known; Triton needs it.",
            hint="Declare the shape when exporting, or run ONNX shape inference on the model.",
            path=str(path),
            tensor=value.name,
        )
    return Tensor(str(value.name), value.type.dtype.name, dims)


def _dimension(dim: object) -> int | None:
    return dim if isinstance(dim, int) and dim >= 0 else None


def _inferred_outputs(path: Path, kind: str, op_libraries: Sequence[str]) -> dict[str, Dims]:
    from ort_quant_plugin.ops.library import open_session

    try:
        session = open_session(path, op_libraries, optimize=False, threads=1, run_deploy_models=kind == "deploy")
    except RuntimeMissingError:
        return {}
    except OrtQuantError:
        if op_libraries or kind != "float":
            raise
        return {}  # operators of a library that only the server has
    return {output.name: tuple(_dimension(dim) for dim in output.shape) for output in session.get_outputs()}


def _is_batched(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    tensors = [*inputs, *outputs]
    return bool(inputs) and all(t.dims and t.dims[0] is None for t in tensors)


def _domains(model: ir.Model) -> set[str]:
    from ort_quant_plugin.model import all_graphs

    domains = {node.domain for graph in all_graphs(model) for node in graph}
    return domains | {node.domain for function in model.functions.values() for node in function}


def _libraries(kind: str, domains: set[str]) -> tuple[str, ...]:
    if kind == "deploy":
        return LIBRARY_NAME, DEPLOY_LIBRARY_NAME
    return (LIBRARY_NAME,) if domains & _OUR_DOMAINS else ()


def _float_precision(model: ir.Model) -> str:
    sizes = {"FLOAT": 0, "FLOAT16": 0}
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype.name in sizes:
            sizes[value.const_value.dtype.name] += value.const_value.nbytes
    return "fp16" if sizes["FLOAT16"] > sizes["FLOAT"] else "fp32"


def _external_files(model: ir.Model, path: Path) -> Iterable[str]:
    import onnx_ir as ir

    from ort_quant_plugin.model import all_tensors

    locations = {str(t.location) for t in all_tensors(model) if isinstance(t, ir.ExternalTensor)}
    for location in sorted(locations):
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise UnsupportedError(
                f"{str(path)!r} keeps tensor data in {location!r}, outside its own folder.",
                hint="Save the model again with its data files beside it.",
                path=str(path),
                location=location,
            )
        yield location
