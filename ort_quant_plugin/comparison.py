"""Float and quantized models side by side on the same data: per output, per class, per layer."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.errors import DataError, ModelError
from ort_quant_plugin.metrics import ErrorStats, agreement_count, top_k_count
from ort_quant_plugin.model import read_model
from ort_quant_plugin.ops.library import open_session
from ort_quant_plugin.progress import ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.calibration.data import CalibrationData
    from ort_quant_plugin.comparison_layers import LayerComparison
    from ort_quant_plugin.progress import Progress

    Array = NDArray[np.generic]
    PathLike = str | os.PathLike[str]
    Metric = Callable[[Array, Array], float]

__all__ = [
    "Accuracy",
    "CandidateReport",
    "ComparisonReport",
    "OutputReport",
    "compare",
    "is_deploy_model",
    "numeric_outputs",
    "open_model",
    "run",
]

_ASCEND_OPERATORS = frozenset({"AscendQuant", "AscendDequant", "AscendAntiQuant"})


@dataclass
class Accuracy:
    """Hits against labels.

    Attributes:
        samples: Labelled samples seen.
        hits1: Those whose label has the largest value.
        hits5: Those whose label is among the five largest.
    """

    samples: int = 0
    hits1: int = 0
    hits5: int = 0

    @property
    def top1(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return self.hits1 / self.samples if self.samples else 0.0

    @property
    def top5(self) -> float:
        """Top-5 accuracy in [0, 1]."""
        return self.hits5 / self.samples if self.samples else 0.0

    def update(self, logits: Array, labels: NDArray[np.int64]) -> None:
        """Add one batch."""
        self.samples += len(labels)
        self.hits1 += top_k_count(logits, labels, 1)
        self.hits5 += top_k_count(logits, labels, 5)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"samples": self.samples, "top1": self.top1, "top5": self.top5}


@dataclass
class OutputReport:
    """One graph output of a candidate against the reference.

    Attributes:
        name: Output name.
        error: Numeric distance.
        samples: Rows judged for agreement, 0 unless the output has rank 2 with at least two classes.
        agreed: Rows with the same arg-max class.
        metrics: Further metrics by name, mean over batches.
    """

    name: str
    error: ErrorStats = field(default_factory=ErrorStats)
    samples: int = 0
    agreed: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def agreement(self) -> float | None:
        """Top-1 agreement in [0, 1]; ``None`` where the output is no table of class values."""
        return self.agreed / self.samples if self.samples else None

    def update(self, reference: Array, candidate: Array, batch: int, metrics: Mapping[str, Metric]) -> None:
        """Add one batch, the ``batch``-th, counted from 0."""
        self.error.update(reference, candidate)
        if _is_classes(reference):
            self.samples += len(reference)
            self.agreed += agreement_count(reference, candidate)
        for name, metric in metrics.items():
            value = float(metric(reference, candidate))
            self.metrics[name] = self.metrics.get(name, 0.0) + (value - self.metrics.get(name, 0.0)) / (batch + 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"name": self.name, **self.error.to_dict(), "agreement": self.agreement, **self.metrics}


@dataclass
class CandidateReport:
    """One candidate model.

    Attributes:
        path: The model.
        outputs: Its outputs, in graph order.
        accuracy: Against the labels, ``None`` without labels.
        layers: Per-layer distances, worst first; empty unless asked for.
        layers_of: The model they were measured in: the fake_quant model beside an ``ort`` model, else the candidate.
        unmatched: Quantized layers of the candidate that the reference does not have.
    """

    path: Path
    outputs: list[OutputReport]
    accuracy: Accuracy | None = None
    layers: list[LayerComparison] = field(default_factory=list)
    layers_of: Path | None = None
    unmatched: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "path": str(self.path),
            "outputs": [output.to_dict() for output in self.outputs],
            "accuracy": self.accuracy.to_dict() if self.accuracy else None,
            "layers": [layer.to_dict() for layer in self.layers],
            "layers_of": str(self.layers_of) if self.layers_of else None,
            "unmatched": self.unmatched,
        }


@dataclass
class ComparisonReport:
    """Result of :func:`compare`.

    Attributes:
        reference: The float model.
        candidates: One report per model compared with it, in the order given.
        accuracy: Of the reference against the labels, ``None`` without labels.
        batches: Batches run.
        samples: Samples run, as far as the outputs tell (their first axis).
        seconds: Wall time.
        skipped: Outputs that hold no numbers and were left out.
    """

    reference: Path
    candidates: list[CandidateReport]
    accuracy: Accuracy | None = None
    batches: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "reference": str(self.reference),
            "batches": self.batches,
            "samples": self.samples,
            "seconds": self.seconds,
            "accuracy": self.accuracy.to_dict() if self.accuracy else None,
            "skipped_outputs": self.skipped,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }


def compare(
    reference: PathLike,
    candidates: Sequence[PathLike],
    data: CalibrationData,
    *,
    labels: NDArray[np.int64] | None = None,
    layers: bool = False,
    metrics: Mapping[str, Metric] | None = None,
    progress: Progress | None = None,
    op_libraries: Sequence[str] = (),
) -> ComparisonReport:
    """Run a float model and quantized models over the same data and measure how far they differ.

    Sums are kept in float64, so memory does not grow with the data.

    Args:
        reference: Float model.
        candidates: Models with the same inputs and outputs: fake_quant, deploy, QDQ, or other float models.
        data: Evaluation data.
        labels: (samples,) class index per sample, for top-1 and top-5 of the first output that holds classes.
        layers: Also compare every quantized layer's output; runs the models over the data once more.
        metrics: Further functions of (reference output, candidate output), reported as mean over batches.
        progress: Receives one event per batch.
        op_libraries: Libraries of custom operators the models use.

    Raises:
        ModelError: a model cannot be loaded, its inputs or outputs differ from the reference's, or the fake_quant model
            that tells the layers of an ``ort`` model is of another one.
        DataError: the data does not fit, or labels are fewer or larger than the outputs say.
    """
    started = time.perf_counter()
    sessions = [open_model(path, op_libraries) for path in (reference, *candidates)]
    names, skipped = numeric_outputs(sessions[0])
    for path, session in zip(candidates, sessions[1:], strict=True):
        _check_interface(sessions[0], session, reference, path)
    report = ComparisonReport(
        Path(reference),
        [CandidateReport(Path(p), [OutputReport(n) for n in names]) for p in candidates],
        skipped=skipped,
    )
    judge = _Judge(report, labels) if labels is not None else None
    for feed in data:
        results = [
            run(session, names, feed, path) for session, path in zip(sessions, (reference, *candidates), strict=True)
        ]
        for candidate, values in zip(report.candidates, results[1:], strict=True):
            for output, expected, value in zip(candidate.outputs, results[0], values, strict=True):
                output.update(expected, value, report.batches, metrics or {})
        if judge is not None:
            judge.update(results)
        report.batches += 1
        report.samples += results[0][0].shape[0] if results[0][0].ndim else 1
        if progress is not None:
            progress(ProgressEvent("compare", report.batches, len(data)))
    if judge is not None:
        judge.finish()
    if layers:
        from ort_quant_plugin.comparison_layers import compare_layers, verified_model_with_layers

        for candidate in report.candidates:
            candidate.layers_of = verified_model_with_layers(candidate.path, data, op_libraries=op_libraries)
            candidate.layers, candidate.unmatched = compare_layers(
                reference, candidate.layers_of, data, progress=progress, op_libraries=op_libraries
            )
    report.seconds = time.perf_counter() - started
    return report


def open_model(path: PathLike, op_libraries: Sequence[str], *, threads: int | None = None) -> Any:
    """A session of any of the models; an untouched deploy model gets the library that runs it.

    Args:
        path: The model.
        op_libraries: Libraries of custom operators it uses.
        threads: Intra-op threads; default: ONNX Runtime's, one a core.

    Raises:
        ModelError, OpLibraryError: See :func:`~ort_quant_plugin.ops.library.open_session`.
    """
    try:
        return open_session(path, op_libraries, threads=threads)
    except ModelError:
        if is_deploy_model(path):
            return open_session(path, op_libraries, threads=threads, run_deploy_models=True)
        raise


def is_deploy_model(path: PathLike) -> bool:
    """Whether a model holds Ascend's operators in the default domain, so that it needs the library that runs them."""
    try:
        model = read_model(path)
    except ModelError:  # ONNX Runtime says what is wrong with it, too
        return False
    return any(node.domain == "" and node.op_type in _ASCEND_OPERATORS for node in model.graph)


def run(session: Any, names: Sequence[str], feed: Mapping[str, Array], path: PathLike) -> list[Array]:
    """Run one batch.

    Raises:
        DataError: ONNX Runtime refuses it.
    """
    try:
        return [np.asarray(value) for value in session.run(list(names), dict(feed))]
    except Exception as error:  # ONNX Runtime's exception types are private to its binding
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"ONNX Runtime could not run {os.fspath(path)!r}: {reason}",
            hint="Check that the data has the shape and meaning the model expects.",
            path=str(path),
        ) from error


class _Judge:
    """Counts top-1 and top-5 hits of every model on the first output that holds classes."""

    def __init__(self, report: ComparisonReport, labels: NDArray[np.int64]) -> None:
        self.labels = labels
        self.used = 0
        self.output: int | None = None
        report.accuracy = Accuracy()
        self.counters = [report.accuracy]
        for candidate in report.candidates:
            candidate.accuracy = Accuracy()
            self.counters.append(candidate.accuracy)

    def update(self, results: list[list[Array]]) -> None:
        if self.output is None:
            self.output = next((i for i, value in enumerate(results[0]) if _is_classes(value)), None)
            if self.output is None:
                raise DataError(
                    "Labels were given, but no output has the shape [samples, classes].",
                    hint="Leave out the labels.",
                    value=[list(value.shape) for value in results[0]],
                )
        rows, classes = results[0][self.output].shape
        labels = self.labels[self.used : self.used + rows]
        self.used += rows
        if len(labels) == rows and (labels.min() < 0 or labels.max() >= classes):
            raise DataError(
                f"A label is {int(labels.max() if labels.max() >= classes else labels.min())}, but the output has "
                f"{classes} classes (0 to {classes - 1}).",
                hint="Use the class numbering the model was trained with.",
                value=labels.tolist(),
            )
        if len(labels) == rows:
            for counter, values in zip(self.counters, results, strict=True):
                counter.update(values[self.output], labels)

    def finish(self) -> None:
        if self.used != len(self.labels):
            raise DataError(
                f"There are {len(self.labels)} labels for {self.used} samples.",
                hint="Give one label per sample.",
                value=len(self.labels),
                expected=self.used,
            )


def _is_classes(value: Array) -> bool:
    return value.ndim == 2 and value.shape[0] > 0 and value.shape[1] > 1 and value.dtype.kind == "f"


def numeric_outputs(session: Any) -> tuple[list[str], list[str]]:
    """Names of the outputs that are tensors of numbers, and of those that are not.

    Raises:
        ModelError: There are none.
    """
    names = [o.name for o in session.get_outputs() if o.type.startswith("tensor(") and o.type != "tensor(string)"]
    skipped = [o.name for o in session.get_outputs() if o.name not in names]
    if not names:
        raise ModelError("The model has no numeric output.", hint="Compare models with tensor outputs.")
    return names, skipped


def _check_interface(reference: Any, candidate: Any, reference_path: PathLike, path: PathLike) -> None:
    for kind in ("inputs", "outputs"):
        wanted = {item.name for item in getattr(reference, f"get_{kind}")()}
        found = {item.name for item in getattr(candidate, f"get_{kind}")()}
        if wanted != found if kind == "inputs" else not wanted <= found:
            raise ModelError(
                f"{os.fspath(path)!r} has the {kind} {', '.join(sorted(found))}, but {os.fspath(reference_path)!r} has "
                f"{', '.join(sorted(wanted))}.",
                hint="Compare a model with the models made from it.",
                path=str(path),
                expected=sorted(wanted),
                value=sorted(found),
            )
