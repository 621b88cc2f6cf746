"""One pass over the data through a calibration model: sketches out, whatever the method.

The pass is cut into parts of some batches. The last run of a part flushes the operators, so what comes out is the part
alone, and parts merge exactly in any order: from this process, from others, from one that was killed.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.calibration.prefetch import prefetch
from ort_quant_plugin.calibration.sketch import Sketch, merge
from ort_quant_plugin.calibration.sketch_file import SketchFile
from ort_quant_plugin.errors import CalibrationError, DataError, OrtQuantError, OutputError
from ort_quant_plugin.ops.library import open_session
from ort_quant_plugin.passes.insert_observers import FLUSH, SKETCHES
from ort_quant_plugin.progress import ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import onnxruntime

    from ort_quant_plugin.calibration.batches import BatchData
    from ort_quant_plugin.calibration.feeds import Feed
    from ort_quant_plugin.progress import Progress

__all__ = ["CalibrationModel", "CalibrationReport", "Collected", "collect_sketches", "digest_files", "run_operators"]

PART = 50
"""Batches between two checkpoints."""


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration run did.

    Attributes:
        batches: Number of batches whose data counts.
        seconds: Wall time, session creation included.
        resumed: Batches of these that an earlier run had done.
        records: Record files written, by method.
        sketches: The saved sketches, where they were kept.
    """

    batches: int
    seconds: float
    resumed: int = 0
    records: dict[str, Path] = field(default_factory=dict)
    sketches: Path | None = None


@dataclass(frozen=True)
class CalibrationModel:
    """A calibration model on disk.

    Attributes:
        path: The model, its observers made by :func:`~ort_quant_plugin.passes.insert_observers.insert_sketches`.
        digest: Identity of its files.
        layers: Record keys by observed tensor.
        op_libraries: Libraries of custom operators it uses.
    """

    path: Path
    digest: str
    layers: dict[str, tuple[str, ...]]
    op_libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Collected:
    """Sketches of all batches.

    Attributes:
        file: They.
        resumed: Batches of these that an earlier run had done.
    """

    file: SketchFile
    resumed: int


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def collect_sketches(
    model: CalibrationModel,
    data: BatchData,
    *,
    checkpoint: Path | None = None,
    keep: bool = False,
    workers: int = 1,
    part: int = PART,
    progress: Progress | None = None,
) -> Collected:
    """Run all of the data through the model, or what an earlier run has left of it.

    Args:
        model: The model.
        data: The batches.
        checkpoint: File that is written after every part and continued from when it is of the same model and data.
        keep: Whether the checkpoint stays when all batches are done.
        workers: Processes that share the parts.
        part: Batches between two checkpoints.
        progress: Gets an event after every batch (with several workers: after every part).

    Returns:
        Sketches by tensor, the same for any ``part`` and ``workers``.

    Raises:
        CalibrationError: A tensor holds NaN or infinity.
        DataError: A batch cannot be read or does not fit the model.
        OutputError: A checkpoint to be kept is of another model or other data.
        KeyboardInterrupt: Ctrl-C; the batches done until then are in the checkpoint.
    """
    collected = _continue(model, data, checkpoint, keep=keep)
    parts = [
        (begin, min(begin + part, stop)) for start, stop in collected.remaining() for begin in range(start, stop, part)
    ]
    resumed = len(data) - sum(stop - start for start, stop in parts)
    if progress is not None and resumed:
        progress(ProgressEvent("calibrate", resumed, len(data)))
    if not parts:
        return Collected(collected, resumed)
    run = _run_here if workers <= 1 or len(parts) == 1 else _run_in_workers
    try:
        for start, stop, sketches in run(model, data, parts, workers, _count_from(progress, resumed, len(data))):
            collected = collected.with_part(start, stop, sketches)
            _refuse_non_finite(collected, start, stop)
            if checkpoint is not None and collected.data is not None and not collected.complete:
                collected.write(checkpoint)
    except OrtQuantError:
        if checkpoint is not None and not keep:  # bad data leaves nothing behind; corrected data is other data
            checkpoint.unlink(missing_ok=True)
        raise
    if checkpoint is not None:
        _finish(collected, checkpoint, keep=keep)
    return Collected(collected, resumed)


def _finish(collected: SketchFile, checkpoint: Path, *, keep: bool) -> None:
    if keep:
        collected.write(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)


def run_operators(
    model_file: str | os.PathLike[str],
    data: BatchData,
    *,
    progress: Progress | None = None,
    op_libraries: Sequence[str] = (),
) -> None:
    """Run a calibration model whose operators write the record themselves, and throw its outputs away.

    Raises:
        CalibrationError: A calibration node refused its data (NaN, infinity, absurd magnitude); the message names it.
        DataError: A batch cannot be read or does not fit the model.
    """
    session = open_session(model_file, op_libraries)
    with closing(prefetch(data)) as feeds:
        for done, feed in enumerate(feeds, 1):
            _run(session, None, feed, done)
            if progress is not None:
                progress(ProgressEvent("calibrate", done, len(data)))


def _continue(model: CalibrationModel, data: BatchData, checkpoint: Path | None, *, keep: bool) -> SketchFile:
    fresh = SketchFile({}, model.layers, model.digest, data.fingerprint, len(data), ())
    if checkpoint is None or not checkpoint.exists():
        return fresh
    saved = SketchFile.read(checkpoint)
    if fresh.data is not None and (saved.model, saved.data, saved.batches) == (fresh.model, fresh.data, fresh.batches):
        return saved
    if keep:
        raise OutputError(
            f"{os.fspath(checkpoint)!r} holds sketches of another model or of other data (or of data that "
            "cannot be recognized: a callable or an iterator).",
            hint="Give another file for the sketches, or delete this one.",
            path=str(checkpoint),
        )
    return fresh


def _count_from(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    def count(batches: int) -> None:
        nonlocal done
        done += batches
        if progress is not None:
            progress(ProgressEvent("calibrate", done, total))

    return count


Parts = list[tuple[int, int]]


def _run_here(
    model: CalibrationModel, data: BatchData, parts: Parts, _: int, count: Callable[[int], None]
) -> Iterator[tuple[int, int, dict[str, Sketch]]]:
    cores = len(os.sched_getaffinity(0))
    # Two batches at a time: small operators do not fill all cores, and what ONNX Runtime does in one thread overlaps.
    lanes = min(2, cores)
    session = open_session(model.path, model.op_libraries, threads=cores // lanes)
    with (
        _interruptible() as interrupted,
        closing(prefetch(_feeds(data, parts))) as feeds,
        ThreadPoolExecutor(lanes, thread_name_prefix="ort-quant-run") as pool,
    ):
        for start, stop in parts:
            running: deque[Future[bytes]] = deque()
            for batch in range(start, stop):
                last = batch == stop - 1 or interrupted.is_set()
                while len(running) >= (1 if last else lanes):
                    running.popleft().result()
                    count(1)
                running.append(pool.submit(_run, session, last, next(feeds), batch + 1))
                if last:
                    blob = running.popleft().result()
                    count(1)
                    yield start, batch + 1, merge(Sketch.split(blob))
                    if interrupted.is_set():
                        raise KeyboardInterrupt
                    break


def _feeds(data: BatchData, parts: Parts) -> Iterator[Feed]:
    """The batches of the parts; neighbouring parts are read in one go, since a callable has to start over each time."""
    runs: Parts = []
    for start, stop in parts:
        if runs and runs[-1][1] == start:
            runs[-1] = runs[-1][0], stop
        else:
            runs.append((start, stop))
    for start, stop in runs:
        yield from data.select(start, stop)


def _run_in_workers(
    model: CalibrationModel, data: BatchData, parts: Parts, workers: int, count: Callable[[int], None]
) -> Iterator[tuple[int, int, dict[str, Sketch]]]:
    from joblib import Parallel, delayed

    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    jobs = (delayed(_run_part)(model, data.select(start, stop), start, stop, threads) for start, stop in parts)
    # Parts come back as they are done; their merge does not depend on the order.
    for start, stop, blob in Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)(jobs):
        count(stop - start)
        yield start, stop, merge(Sketch.split(blob))


_SESSIONS: dict[tuple[str, int], onnxruntime.InferenceSession] = {}


def _run_part(model: CalibrationModel, data: BatchData, start: int, stop: int, threads: int) -> tuple[int, int, bytes]:
    """One part, in a worker process; the session serves all parts the process gets."""
    key = (model.digest, threads)
    if key not in _SESSIONS:
        _SESSIONS.clear()
        _SESSIONS[key] = open_session(model.path, model.op_libraries, threads=threads)
    blob = b""
    with closing(prefetch(data)) as feeds:
        for batch, feed in enumerate(feeds, start + 1):
            blob = _run(_SESSIONS[key], batch == stop, feed, batch)
    return start, stop, blob


def _run(session: onnxruntime.InferenceSession, flush: bool | None, feed: Feed, batch: int) -> bytes:
    """One run. ``flush`` is ``None`` for models without observers of ours."""
    try:
        if flush is None:
            session.run(None, feed)
            return b""
        (sketches,) = session.run([SKETCHES], {**feed, FLUSH: np.array([flush])})
    except Exception as error:  # ONNX Runtime's exception types are private to its binding
        raise _explain(str(error), batch) from error
    return bytes(sketches.tobytes())


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that the run in progress ends well; the second one interrupts."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield interrupted
        return

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def _refuse_non_finite(collected: SketchFile, start: int, stop: int) -> None:
    from ort_quant_plugin.calibration.choose import refuse_non_finite, subject_of

    for tensor, sketch in collected.sketches.items():
        refuse_non_finite(
            sketch, subject_of(tensor, collected.layers.get(tensor, ())), f"batches {start + 1} to {stop}"
        )


def _explain(text: str, batch: int) -> CalibrationError | DataError:
    """Cut ONNX Runtime's frame off a node's own words."""
    found = re.search(r"running (\w+) node\. Name:'(.*?)' Status Message: (.*)", text, re.DOTALL)
    if found and found[1] in {"IFMR", "HFMG", "Observe", "DUMP"}:
        message, _, hint = found[3].strip().partition(" Hint: ")
        return CalibrationError(
            f"Calibration failed in batch {batch}: {message}", hint=hint or None, node=found[2], batch=batch
        )
    return DataError(
        f"ONNX Runtime could not run batch {batch}: {text.splitlines()[0] if text else 'no reason given'}",
        hint="Check that the data has the shape and meaning the model expects.",
        batch=batch,
    )
