"""Try calibration methods on the whole net and keep the best (TPU-MLIR's search_threshold).

For each method all ranges are chosen from the same sketches, the net is simulated in int8 on some samples, and its
outputs are compared with the float net's::

    cosine: mean of 0.5 + 0.5·cos(y_float, y_int8)        snr: mean of 1 − Σ(y_int8 − y_float)² / (Σ y_float² + 1e−7)

over samples and outputs. The highest score wins, the first of equals. A method that fails is reported with its reason
and loses; so does one that Ctrl-C leaves untried, once there is a result to keep.
"""

from __future__ import annotations

import copy
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ort_quant_plugin.errors import CalibrationError, OrtQuantError
from ort_quant_plugin.progress import ProgressEvent

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ort_quant_plugin.calibration.batches import BatchData
    from ort_quant_plugin.calibration.calibrate import Calibrator
    from ort_quant_plugin.progress import Progress
    from ort_quant_plugin.record import Record

    Array = NDArray[np.generic]

__all__ = ["SCORES", "MethodScore", "Score", "cosine_score", "search_threshold", "snr_score"]

Score = Literal["cosine", "snr"]


@dataclass(frozen=True)
class MethodScore:
    """How a method did on the whole net.

    Attributes:
        method: Its name.
        score: At most 1; ``None`` where it failed or was not tried.
        chosen: Whether it won.
        reason: Why there is no score.
    """

    method: str
    score: float | None
    chosen: bool = False
    reason: str | None = None


def cosine_score(reference: Array, candidate: Array) -> float:
    """``0.5 + 0.5·cos``: 1 for equal directions; two all-zero outputs are equal."""
    a, b = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
    norm = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    if norm == 0:
        return 1.0 if np.array_equal(a, b) else 0.5
    return 0.5 + 0.5 * float(a @ b) / norm


def snr_score(reference: Array, candidate: Array) -> float:
    """``1 − Σ(b − a)² / (Σ a² + 1e−7)``: 1 without noise, below 0 where noise outweighs the signal."""
    a, b = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
    return 1.0 - float(np.square(b - a).sum()) / (float(np.square(a).sum()) + 1e-7)


SCORES: dict[Score, Callable[[Array, Array], float]] = {"cosine": cosine_score, "snr": snr_score}
"""Scores by name: both compare a float output with its quantized counterpart."""


def search_threshold(
    calibrator: Calibrator,
    record: Record,
    methods: Sequence[str],
    simulate: Callable[[Record, Path], Path],
    *,
    float_model: str | os.PathLike[str],
    data: BatchData,
    score: Score = "cosine",
    op_libraries: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[Record, list[MethodScore]]:
    """Choose among methods by what the quantized net computes.

    Args:
        calibrator: After its run: it holds the sketches.
        record: The record to fill; it stays as it is.
        methods: Methods to try, in order.
        simulate: Writes the fake_quant model of a filled record into a folder and returns its path.
        float_model: The net as it was.
        data: Samples to compare on.
        score: How outputs are compared.
        op_libraries: Libraries of custom operators the net uses.
        progress: Gets an event per method.

    Returns:
        The winner's record, and every method's score.

    Raises:
        CalibrationError: No method gives a result; the reasons are quoted.
        KeyboardInterrupt: Ctrl-C before there was a result.
    """
    scores: list[MethodScore] = []
    records: dict[str, Record] = {}
    try:
        for number, method in enumerate(methods, 1):
            scores.append(_try(calibrator, record, method, simulate, float_model, data, score, op_libraries, records))
            if progress is not None:
                progress(ProgressEvent("search", number, len(methods), "method"))
    except KeyboardInterrupt:
        if not any(found.score is not None for found in scores):
            raise
        tried = {found.method for found in scores}
        scores += [MethodScore(name, None, reason="interrupted") for name in methods if name not in tried]
    ranked = [found for found in scores if found.score is not None]
    if not ranked:
        reasons = "; ".join(f"{found.method}: {found.reason}" for found in scores)
        raise CalibrationError(
            f"No calibration method gives a result. {reasons}", hint="Correct the data or the model."
        )
    best = max(ranked, key=lambda found: found.score if found.score is not None else -math.inf)
    calibrator.override(best.method)
    return records[best.method], [
        MethodScore(found.method, found.score, found is best, found.reason) for found in scores
    ]


def _try(
    calibrator: Calibrator,
    record: Record,
    method: str,
    simulate: Callable[[Record, Path], Path],
    float_model: str | os.PathLike[str],
    data: BatchData,
    score: Score,
    op_libraries: Sequence[str],
    records: dict[str, Record],
) -> MethodScore:
    from ort_quant_plugin.comparison import compare

    calibrator.override(method)
    filled = copy.deepcopy(record)
    try:
        calibrator.fill(filled)
        with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
            candidate = simulate(filled, Path(folder))
            report = compare(
                float_model, [candidate], data, metrics={"score": SCORES[score]}, op_libraries=op_libraries
            )
    except OrtQuantError as error:
        return MethodScore(method, None, reason=error.message)
    outputs = [output.metrics["score"] for output in report.candidates[0].outputs if "score" in output.metrics]
    value = float(np.mean(outputs)) if outputs else math.nan
    if not math.isfinite(value):
        return MethodScore(method, None, reason="the quantized net gives values that are not finite")
    records[method] = filled
    return MethodScore(method, value)
