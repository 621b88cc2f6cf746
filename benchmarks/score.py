"""One judge for every tool: the written models against the float model on the evaluation samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import Result, Stopwatch
from photos import load, read_samples

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime as ort
    from jobs import Job
    from numpy.typing import NDArray

__all__ = ["run"]


def run(job: Job) -> Result:
    """Score the models in ``options["models"]`` (path by name); the first output is judged.

    Values: by name, and for ``float``, a mapping of

    * sqnr_db: 10·log10(Σx² / Σ(x−y)²) over all values of all samples, x of the float model;
    * agreement: share of samples with the float model's arg-max; ``None`` unless the output is (samples, classes);
    * top1: share of samples whose arg-max is the label; ``None`` without labels;

    or of ``error`` alone for a model that ONNX Runtime refuses.
    """
    from ort_quant_plugin.metrics import ErrorStats, agreement_count, top_k_count

    watch = Stopwatch()
    samples = [sample for sample in read_samples(Path(job.samples)) if sample.split == job.split]
    outputs, failed = _outputs(job, [sample.path for sample in samples])
    reference = outputs["float"]
    labels = [sample.label for sample in samples if sample.label is not None]
    scores: dict[str, dict[str, Any]] = {}
    for name, values in outputs.items():
        error = ErrorStats()
        error.update(reference, values)
        classes = values.ndim == 2 and values.shape[1] > 1
        labelled = classes and len(labels) == len(samples)
        scores[name] = {
            "sqnr_db": None if error.exact else error.sqnr_db,
            "agreement": agreement_count(reference, values) / len(values) if classes else None,
            "top1": top_k_count(values, labels, 1) / len(values) if labelled else None,
        }
    return Result(
        seconds=watch.seconds(),
        libraries_mb=watch.libraries_mb,
        values={**scores, **{name: {"error": reason} for name, reason in failed.items()}},
    )


def _outputs(job: Job, paths: list[Path]) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """First output of every model for every sample, and the reasons of those that cannot run."""
    import numpy as np

    rows: dict[str, list[NDArray[np.float32]]] = {}
    opened = {name: _open(path) for name, path in {"float": job.model, **job.options["models"]}.items()}
    sessions = {name: session for name, session in opened.items() if not isinstance(session, str)}
    failed = {name: reason for name, reason in opened.items() if isinstance(reason, str)}
    for path in paths:
        sample = load(path, job)
        for name, session in sessions.items():
            rows.setdefault(name, []).append(session.run(None, {session.get_inputs()[0].name: sample})[0])
    return {name: np.concatenate(parts) for name, parts in rows.items()}, failed


def _open(path: str) -> ort.InferenceSession | str:
    """Session with every optimization and our operators, or why there is none."""
    import onnxruntime as ort

    import ort_quant_plugin as oq

    options = oq.session_options(log_severity_level=4)
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exception types are private to its binding
        return str(error).strip().splitlines()[0]
