"""Model files and facts about their values: the only module that reads or writes ONNX files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.errors import ModelError, OutputError, UnsupportedError
from ort_quant_plugin.files import FOLDER_MODE, make_private_file, unwritable
from ort_quant_plugin.serialize import write_model_proto

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = [
    "Names",
    "TensorSpec",
    "all_graphs",
    "all_tensors",
    "check_domains",
    "const_array",
    "default_opset",
    "input_specs",
    "is_external",
    "read_model",
    "refuse_existing",
    "replace_constant",
    "write_model",
]

EXTERNAL_THRESHOLD = 2_000_000_000
"""Bytes of tensor data above which a model is written with external data (AMCT's threshold; protobuf ends at 2³¹)."""

_MIN_EXTERNAL_TENSOR = 1024
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})
_RUNTIME_DOMAINS = frozenset({"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})
_AMCT_DOMAINS = frozenset({"amct.customop", "amct.customop.extfp16", "amct.customop.extint8", "ort_quant"})


@dataclass(frozen=True)
class TensorSpec:
    """What a graph input takes.

    Attributes:
        name: Input name.
        dtype: numpy element type.
        shape: One entry a dimension: an ``int`` (fixed), a ``str`` (symbolic) or ``None``
            (unknown); ``None`` instead of a tuple when even the rank is unknown.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...] | None


def read_model(path: str | os.PathLike[str]) -> ir.Model:
    """Read an ONNX file; external tensors stay on disk and are mapped when touched.

    Raises:
        ModelError: The file is missing, unreadable, not ONNX, empty, or its external data is missing or truncated.
    """
    from google.protobuf.message import DecodeError

    path = Path(path)
    if not path.exists():
        raise ModelError(f"Model file {str(path)!r} does not exist.", hint="Check the path.", path=str(path))
    if not path.is_file():
        raise ModelError(f"{str(path)!r} is not a file.", hint="Give the path of an .onnx file.", path=str(path))
    try:
        model = _parse(path)
    except PermissionError as error:
        raise ModelError(
            f"Model file {str(path)!r} cannot be read: permission denied.",
            hint="Check the file's permissions.",
            path=str(path),
        ) from error
    except UnsupportedError:
        raise
    except (DecodeError, ir.serde.SerdeError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise _not_onnx(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not model.ir_version or (model.graph.num_nodes() == 0 and not model.graph.outputs):
        raise _not_onnx(path, "it holds no graph")
    _check_external_data(model, path)
    return model


def _parse(path: Path) -> ir.Model:
    """What ``ir.load`` does, with a word on sparse constants, which it cannot hold."""
    import onnx

    proto = onnx.load(path, format="protobuf", load_external_data=False)
    sparse = [tensor.values.name for tensor in proto.graph.sparse_initializer]
    sparse += [n.name or n.output[0] for n in proto.graph.node if any(a.name == "sparse_value" for a in n.attribute)]
    if sparse:
        raise UnsupportedError(
            f"The model holds the constant {sparse[0]!r} in sparse form, which is not supported.",
            hint="Export the model with dense weights.",
            tensors=sparse,
        )
    model = ir.from_proto(proto)
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model


def _not_onnx(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{str(path)!r} is not a readable ONNX model: {why}.",
        hint="Export the model again, or check that the download is complete.",
        path=str(path),
    )


def _check_external_data(model: ir.Model, path: Path) -> None:
    for tensor in all_tensors(model):
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        location = Path(tensor.path)
        if not location.is_file():
            raise ModelError(
                f"Tensor {tensor.name!r} of {str(path)!r} lies in the external file {str(location)!r}, "
                "which does not exist.",
                hint="Copy the external data files next to the model.",
                tensor=tensor.name,
                path=str(location),
            )
        needed = (tensor.offset or 0) + (tensor.length if tensor.length is not None else tensor.nbytes)
        size = location.stat().st_size
        if size < needed:
            raise ModelError(
                f"External data file {str(location)!r} is truncated: tensor {tensor.name!r} "
                f"needs {needed} bytes, the file has {size}.",
                hint="Copy the file again; it is incomplete.",
                tensor=tensor.name,
                path=str(location),
            )


def check_domains(model: ir.Model, *, op_libraries: Sequence[str] = ()) -> None:
    """Refuse operators that neither ONNX Runtime nor this package implements.

    Raises:
        UnsupportedError: Nodes of unknown domains are present and no op library was given.
    """
    if op_libraries:
        return
    known = _STANDARD_DOMAINS | _RUNTIME_DOMAINS | _AMCT_DOMAINS | {f.domain for f in model.functions.values()}
    strangers = {
        f"{node.domain}::{node.op_type}": node.name
        for graph in all_graphs(model)
        for node in graph
        if node.domain not in known
    }
    if strangers:
        names = ", ".join(f"{op} (node {node!r})" for op, node in sorted(strangers.items())[:5])
        raise UnsupportedError(
            f"The model uses custom operators that no given library implements: {names}.",
            hint="Give the library that implements them with --op-library (op_libraries=[…] in Python).",
            operators=sorted(strangers),
        )


def write_model(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    external_prefix: str | None = None,
    external_suffix: str = ".external",
    force_external: bool = False,
) -> list[Path]:
    """Write a model; the file appears whole or not at all.

    Tensors go to one external file each, ``<external_prefix><tensor><external_suffix>`` next to the model, when
    ``force_external`` is set or the tensor data exceeds :data:`EXTERNAL_THRESHOLD`; otherwise everything is embedded.
    The prefix defaults to ``<stem of the model>_``, so that models in one folder do not share files.
    ``model`` itself may be changed in that case (its tensors then refer to the written files).

    Returns:
        The written files, the model first.

    Raises:
        OutputError: The folder or file cannot be written.
    """
    path = Path(path)
    prefix = f"{path.stem}_" if external_prefix is None else external_prefix
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        external = force_external or sum(t.nbytes for t in all_tensors(model)) > EXTERNAL_THRESHOLD
        written = _move_tensors_out(model, path.parent, prefix, external_suffix) if external else []
        if not external:
            ir.external_data.load_to_model(model)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            make_private_file(temporary)
            with temporary.open("wb") as stream:
                write_model_proto(model, stream)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return [path, *written]


def _move_tensors_out(model: ir.Model, folder: Path, prefix: str, suffix: str) -> list[Path]:
    written: list[Path] = []
    used: set[str] = set()
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _MIN_EXTERNAL_TENSOR or tensor.dtype == ir.DataType.STRING:
            continue
        stem = prefix + re.sub(r"[^\w.\-]", "_", value.name or "tensor")[:200]
        name = stem + suffix
        while name in used:
            name = f"{stem}_{len(used)}{suffix}"
        used.add(name)
        if not (folder / name).exists():
            make_private_file(folder / name)  # the writer keeps the mode of the file it replaces
        (value.const_value,) = ir.external_data.convert_tensors_to_external([tensor], folder, name)
        written.append(folder / name)
    return written


def all_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every constant tensor of the model: initializers and tensor attributes, subgraphs too."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if not attribute.is_ref() and attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor()


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, then every subgraph (If, Loop, Scan bodies), depth first."""
    yield model.graph
    yield from model.graph.subgraphs()


class Names:
    """The node and value names of a model, bodies included; hands out free ones and remembers them."""

    def __init__(self, model: ir.Model) -> None:
        self._nodes: set[str | None] = set()
        self._values: set[str | None] = set()
        for graph in all_graphs(model):
            self._nodes.update(node.name for node in graph)
            self._values.update(v.name for v in graph.inputs)
            self._values.update(graph.initializers)
            self._values.update(v.name for node in graph for v in node.outputs)

    def node(self, wanted: str) -> str:
        """``wanted``, or ``wanted_1``, ``wanted_2`` … if a node has that name."""
        return _free(wanted, self._nodes)

    def value(self, wanted: str) -> str:
        """``wanted``, or ``wanted_1``, ``wanted_2`` … if a value has that name."""
        return _free(wanted, self._values)


def _free(wanted: str, taken: set[str | None]) -> str:
    name, suffix = wanted, 0
    while name in taken:
        suffix += 1
        name = f"{wanted}_{suffix}"
    taken.add(name)
    return name


def is_external(model: ir.Model) -> bool:
    """Whether any initializer lies in an external file."""
    return any(isinstance(v.const_value, ir.ExternalTensor) for v in model.graph.initializers.values())


def const_array(value: ir.Value | None) -> Array | None:
    """The content of an initializer or of a Constant node's output; ``None`` when the value is not constant."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def replace_constant(node: ir.Node, index: int, array: Array, *, dtype: type[np.generic] | None = None) -> ir.Value:
    """Give input ``index`` of ``node`` a new constant content, leaving other users of the old constant alone.

    With a ``dtype`` the array is converted when the model is written: a model's worth of converted weights is never in
    memory at once. The initializer keeps its name when this node is its only user (AMCT replaces weights in place);
    otherwise a new one named ``<old name>_<node name>`` is made.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    old = node.inputs[index]
    assert old is not None
    tensor: ir.TensorProtocol = ir.tensor(array) if dtype in {None, array.dtype.type} else _converted(array, dtype)
    if len(old.uses()) == 1 and old.is_initializer() and not old.is_graph_output() and not old.is_graph_input():
        name = old.name
        graph.initializers.pop(str(name))
    else:
        name = f"{old.name}_{node.name}"
    tensor.name = name
    new = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(new)
    node.replace_input_with(index, new)
    return new


def _converted(array: Array, dtype: type[np.generic]) -> ir.LazyTensor:
    return ir.LazyTensor(
        lambda: ir.tensor(array.astype(dtype)),
        dtype=ir.DataType.from_numpy(np.dtype(dtype)),
        shape=ir.Shape(array.shape),
    )


def default_opset(model: ir.Model) -> int:
    """Version of the default domain the model imports; 0 when it imports none."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))


def input_specs(model: ir.Model) -> list[TensorSpec]:
    """The inputs a caller must feed: graph inputs that are not initializers."""
    specs = []
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        dtype = (value.dtype or ir.DataType.FLOAT).numpy()
        shape = None if value.shape is None else tuple(_dimension(d) for d in value.shape)
        specs.append(TensorSpec(str(value.name), dtype, shape))
    return specs


def _dimension(dim: int | ir.SymbolicDim) -> int | str | None:
    if isinstance(dim, int):
        return dim if dim >= 0 else None  # PaddlePaddle writes -1 for a free dimension
    return None if dim.value is None else str(dim.value)


def refuse_existing(
    outputs: Collection[str | os.PathLike[str]],
    *,
    force: bool,
    inputs: Collection[str | os.PathLike[str] | None] = (),
) -> None:
    """Refuse to overwrite anything but old results.

    Args:
        outputs: Files about to be written.
        force: Whether existing ones may be overwritten.
        inputs: Files about to be read; ``None`` is skipped. None of them may be overwritten, even with ``force``.

    Raises:
        OutputError: An output is an input, two outputs are one file, or one exists and ``force`` is not set.
    """
    paths = [Path(p).resolve() for p in outputs]
    read = {Path(p).resolve() for p in inputs if p is not None}
    for path in paths:
        if path in read or paths.count(path) > 1:
            what = "is also an input" if path in read else "is named for two outputs"
            raise OutputError(
                f"The output {str(path)!r} {what}.", hint="Choose another path for the output.", paths=[str(path)]
            )
    existing = [str(p) for p in outputs if Path(p).exists()]
    if existing and not force:
        raise OutputError(
            f"Output exists already: {', '.join(existing)}.",
            hint="Choose another path, or overwrite with --force (force=True in Python).",
            paths=existing,
        )
