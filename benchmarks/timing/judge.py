"""One judge for every engine: what it answered to the same samples, against the float and the fake-quant model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import Result, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs import Job
    from numpy.typing import NDArray

    Answers = Mapping[str, NDArray[np.float32]]

__all__ = ["run"]


def run(job: Job) -> Result:
    """Compare the ``outputs.npz`` in ``options["answers"]`` (paths by row, one a number of threads, fewest first).

    ``options["float"]`` and ``options["fake_quant"]`` are such files too, or ``None``. Values by row:

    * sqnr_db, agreement: first output, first batch size, against the float model, as in :mod:`score`;
      ``None`` without it;
    * same: whether every number of threads and every batch size gives the same bits, in all outputs;
    * exact: whether those are the bits of the fake-quant model; ``None`` without it.
    """
    watch = Stopwatch()
    files: dict[str, list[str]] = job.options["answers"]
    reference, fake_quant = (_read(job.options[name]) for name in ("float", "fake_quant"))
    values = {}
    for row, paths in files.items():
        answers = [answer for answer in map(_read, paths) if answer is not None]
        ways = [_outputs(answer, batch) for answer in answers for batch in _batches(answer)]
        values[row] = {
            **_error(reference, answers[0]),
            "same": all(_equal(ways[0], way) for way in ways[1:]),
            "exact": None if fake_quant is None else _equal(_outputs(fake_quant, _batches(fake_quant)[0]), ways[0]),
        }
    return Result(seconds=watch.seconds(), libraries_mb=watch.libraries_mb, values=values)


def _read(path: str | None) -> Answers | None:
    if path is None:
        return None
    with np.load(Path(path)) as stored:
        return dict(stored)


def _batches(answers: Answers) -> list[str]:
    return list(dict.fromkeys(name.split("_")[0] for name in answers))


def _outputs(answers: Answers, batch: str) -> list[NDArray[np.float32]]:
    return [values for name, values in answers.items() if name.split("_")[0] == batch]


def _equal(left: list[NDArray[np.float32]], right: list[NDArray[np.float32]]) -> bool:
    """The same bits; of the samples that fill both batches."""
    count = min(len(left[0]), len(right[0]))
    return all(a[:count].tobytes() == b[:count].tobytes() for a, b in zip(left, right, strict=True))


def _error(reference: Answers | None, answers: Answers) -> dict[str, Any]:
    from ort_quant_plugin.metrics import ErrorStats, agreement_count

    if reference is None:
        return {"sqnr_db": None, "agreement": None}
    first = _batches(answers)[0]
    expected, values = reference[f"{first}_0"], answers[f"{first}_0"]
    error = ErrorStats()
    error.update(expected, values)
    classes = values.ndim == 2 and values.shape[1] > 1
    return {
        "sqnr_db": None if error.exact else error.sqnr_db,
        "agreement": agreement_count(expected, values) / len(values) if classes else None,
    }
