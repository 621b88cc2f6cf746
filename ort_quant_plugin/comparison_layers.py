"""Which layer is to blame: every quantized layer's output in the float model against the quantized one.

The float model is prepared as for quantization (BatchNormalization folded …), because only then does a layer's
output mean the same on both sides. Errors of earlier layers are carried along, as they are when the model serves.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.layers import QUANTIZABLE_TYPES, TENSOR_TYPES
from ort_quant_plugin.metrics import ErrorStats, same_bits
from ort_quant_plugin.model import Names, read_model, write_model
from ort_quant_plugin.passes import prepare
from ort_quant_plugin.progress import ProgressEvent

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.calibration.feeds import Array, Feed
    from ort_quant_plugin.progress import Progress

    PathLike = str | os.PathLike[str]

__all__ = ["LayerComparison", "compare_layers", "model_with_layers", "same_outputs", "verified_model_with_layers"]

_LAYER_TYPES = frozenset(QUANTIZABLE_TYPES + TENSOR_TYPES)
_ORT_SUFFIX, _FAKE_QUANT_SUFFIX = "ort_model.onnx", "fake_quant_model.onnx"
_DEQUANT_SUFFIXES = {"AscendDequant": ".dequant", "Mul": ".fakedequant.mul"}


@dataclass
class LayerComparison:
    """One quantized layer.

    Attributes:
        name: Node name.
        op_type: ONNX operator.
        error: Its output in the quantized model against the float model.
        own: The same, with the float model's values as its inputs; empty unless asked for.
    """

    name: str
    op_type: str
    error: ErrorStats = field(default_factory=ErrorStats)
    own: ErrorStats = field(default_factory=ErrorStats)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"name": self.name, "op_type": self.op_type, **self.error.to_dict()}


@dataclass(frozen=True)
class _Tap:
    """A layer of the candidate, the node whose result it is, and the tensor that holds it."""

    layer: str
    op_type: str
    node: str
    value: ir.Value


def compare_layers(
    reference: PathLike,
    candidate: PathLike,
    data: CalibrationData,
    *,
    own: bool = False,
    progress: Progress | None = None,
    op_libraries: Sequence[str] = (),
) -> tuple[list[LayerComparison], list[str]]:
    """Compare the output of every quantized layer.

    What is compared with the float layer's output: in a fake_quant model the output of ``<layer>.dequant`` (custom
    or plain-ONNX form), in a QDQ model the output of the layer (or Add, MaxPool) that
    reads a DequantizeLinear.

    Args:
        reference: Float model the candidate was made from.
        candidate: fake_quant, deploy or QDQ model.
        data: Evaluation data; one batch of all layer outputs is in memory at a time.
        own: Also measure what each layer does to the float model's values; one more run of the candidate per batch.
        progress: Receives one event per batch.
        op_libraries: Libraries of custom operators the models use.

    Returns:
        Layers, worst SQNR first, and the names of quantized layers the reference does not have.

    Raises:
        ModelError, DataError: as :func:`ort_quant_plugin.comparison.compare`.
    """
    quantized = read_model(candidate)
    taps = list(_find_taps(quantized))
    prepared = read_model(reference)
    prepare(prepared, skip_fusion_layers=_unfused(quantized, prepared))
    nodes = {node.name: node for node in prepared.graph}
    unmatched = [tap.layer for tap in taps if tap.node not in nodes]
    taps = [tap for tap in taps if tap.node in nodes]
    results = [LayerComparison(tap.layer, tap.op_type) for tap in taps]
    if not taps:
        return results, unmatched
    with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
        float_values = [nodes[tap.node].outputs[0] for tap in taps]
        runners = [
            _Runner(prepared, float_values, Path(folder) / "0.onnx", op_libraries),
            _Runner(quantized, [tap.value for tap in taps], Path(folder) / "1.onnx", op_libraries),
        ]
        isolated = _IsolatedLayers(quantized, taps, Path(folder) / "2.onnx", op_libraries) if own else None
        for done, feed in enumerate(data, 1):
            expected, found = (runner.run(feed) for runner in runners)
            for result, one, other in zip(results, expected, found, strict=True):
                result.error.update(one, other)
            if isolated is not None:
                for result, one, other in zip(results, expected, isolated.run(feed, expected), strict=True):
                    result.own.update(one, other)
            if progress is not None:
                progress(ProgressEvent(f"layers of {Path(candidate).name}", done, len(data)))
    return sorted(results, key=_badness), unmatched


class _Runner:
    """A copy of a model that gives the values of ``values``, in that order."""

    def __init__(self, model: ir.Model, values: Sequence[ir.Value], path: Path, op_libraries: Sequence[str]) -> None:
        from ort_quant_plugin.comparison import open_model

        _write_with_outputs(model, values, path)
        self._path = path
        self._names = [str(value.name) for value in values]
        self._session = open_model(path, op_libraries)

    def run(self, feed: Feed) -> list[Array]:
        from ort_quant_plugin.comparison import run

        return run(self._session, self._names, feed, self._path)


class _IsolatedLayers:
    """The candidate cut behind every layer: what follows a layer reads the float layer's result from an input."""

    def __init__(self, model: ir.Model, taps: Sequence[_Tap], path: Path, op_libraries: Sequence[str]) -> None:
        names = Names(model)
        self._inputs: list[str | None] = []
        for tap in taps:
            uses = list(tap.value.uses())
            self._inputs.append(names.value(f"{tap.value.name}.float") if uses else None)
            if uses:
                given = ir.Value(name=self._inputs[-1], type=tap.value.type or ir.TensorType(ir.DataType.FLOAT))
                model.graph.inputs.append(given)
                for node, index in uses:
                    node.replace_input_with(index, given)
        self._runner = _Runner(model, [tap.value for tap in taps], path, op_libraries)

    def run(self, feed: Feed, expected: Sequence[Array]) -> list[Array]:
        given = {name: array for name, array in zip(self._inputs, expected, strict=True) if name is not None}
        return self._runner.run({**feed, **given})


def model_with_layers(path: PathLike) -> Path:
    """The model whose layers :func:`compare_layers` can tell apart: ``path`` itself, or its fake_quant model.

    An ``ort`` model's layers are fused, so their float outputs exist nowhere. The fake_quant model written beside it
    has the same bits.
    """
    path = Path(path)
    twin = path.with_name(path.name.removesuffix(_ORT_SUFFIX) + _FAKE_QUANT_SUFFIX)
    if path.name.endswith(_ORT_SUFFIX) and twin.is_file() and not any(_find_taps(read_model(path))):
        return twin
    return path


def verified_model_with_layers(
    path: PathLike, data: Iterable[Feed], *, op_libraries: Sequence[str] = (), threads: int | None = None
) -> Path:
    """:func:`model_with_layers`, once it has given the same bits as ``path`` on all of ``data``.

    Raises:
        ModelError: The model beside it is another one.
    """
    found = model_with_layers(path)
    if found != Path(path) and not same_outputs(path, found, data, op_libraries=op_libraries, threads=threads):
        raise ModelError(
            f"The layers of {str(path)!r} are fused, and {found.name!r} beside it has other outputs: it is not the "
            "same model.",
            hint="Write both models in one run, or remove the model that is out of date.",
            path=str(path),
            value=str(found),
        )
    return found


def same_outputs(
    one: PathLike,
    other: PathLike,
    data: Iterable[Feed],
    *,
    op_libraries: Sequence[str] = (),
    threads: int | None = None,
) -> bool:
    """Whether two models give the same bits in all numeric outputs of the first."""
    from ort_quant_plugin.comparison import numeric_outputs, open_model, run

    sessions = [open_model(path, op_libraries, threads=threads) for path in (one, other)]
    names, theirs = (numeric_outputs(session)[0] for session in sessions)
    if not set(names) <= set(theirs):
        return False
    for feed in data:
        found, expected = (
            run(session, names, feed, path) for session, path in zip(sessions, (one, other), strict=True)
        )
        if not all(map(same_bits, found, expected)):
            return False
    return True


def _badness(layer: LayerComparison) -> float:
    value = layer.error.sqnr_db
    return -math.inf if math.isnan(value) else value


def _find_taps(model: ir.Model) -> Iterator[_Tap]:
    for node in model.graph:
        source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        suffix = _DEQUANT_SUFFIXES.get(node.op_type)
        if suffix and source is not None and str(node.name).endswith(suffix):
            layer = str(node.name).removesuffix(suffix)
            yield _Tap(layer, _op_type(model, layer, source), str(source.name), node.outputs[0])
        elif node.op_type in _LAYER_TYPES and any(_is_dequantized_activation(value) for value in node.inputs):
            yield _Tap(str(node.name), node.op_type, str(node.name), node.outputs[0])


def _op_type(model: ir.Model, layer: str, source: ir.Node) -> str:
    """The layer's operator; the node before the dequantizer is its bias Add in a MatMul layer."""
    if source.name == layer:
        return source.op_type
    return next((node.op_type for node in model.graph if node.name == layer), source.op_type)


def _is_dequantized_activation(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "DequantizeLinear":
        return False
    quantized = producer.inputs[0]
    return quantized is not None and quantized.producer() is not None


def _unfused(quantized: ir.Model, reference: ir.Model) -> list[str]:
    """Layers of the candidate that still have their BatchNormalization: the reference must keep it too."""
    found = []
    kept = {node.name for node in quantized.graph if node.op_type == "BatchNormalization"}
    for node in reference.graph:
        if node.op_type == "BatchNormalization" and node.name in kept and node.inputs[0] is not None:
            producer = node.inputs[0].producer()
            if producer is not None and producer.name:
                found.append(str(producer.name))
    return found


def _write_with_outputs(model: ir.Model, values: Sequence[ir.Value], path: Path) -> None:
    present = set(model.graph.outputs)
    model.graph.outputs.extend(value for value in dict.fromkeys(values) if value not in present)
    write_model(model, path)
