"""Models' outputs on the evaluation data, run once and shared by the gates that look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.comparison import numeric_outputs, open_model, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ort_quant_plugin.calibration.feeds import Feed
    from ort_quant_plugin.gates.dataset import Dataset, SampleRows
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.metrics.base import Array
    from ort_quant_plugin.gates.model_files import ModelFacts
    from ort_quant_plugin.progress import Progress

    Outputs = dict[str, Array]

__all__ = ["OutputCache", "row_probe"]


class OutputCache:
    """Outputs by model and data, the least recently used forgotten first.

    Args:
        limit: Bytes to keep at most; outputs of one model that need more are not kept at all.
        progress: Receives one event per batch.
    """

    def __init__(self, limit: int, progress: Progress | None = None) -> None:
        self.progress = progress
        self._limit = limit
        self._kept: dict[str, list[tuple[SampleRows, Outputs]]] = {}

    def run(
        self, models: Sequence[ModelFacts], dataset: Dataset, gate: Gate
    ) -> Iterator[tuple[SampleRows, list[Outputs]]]:
        """Outputs of each model, batch by batch; the samples are read only if a model has to be run.

        Raises:
            ModelError, DataError: A model cannot be loaded or run.
        """
        keys = [f"{model.sha256} {dataset.key} {gate.threads} {gate.op_libraries}" for model in models]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        for key in known:  # most recently used last
            self._kept[key] = self._kept.pop(key)
        if len(known) == len(set(keys)):
            for batches in zip(*(known[key] for key in keys), strict=True):
                yield batches[0][0], [outputs for _, outputs in batches]
            return
        runners = {key: _runner(model, gate) for key, model in zip(keys, models, strict=True) if key not in known}
        fresh: dict[str, _Collected] = {key: _Collected(self._limit) for key in runners}
        for index, (rows, feed) in enumerate(dataset.feeds()):
            found = {key: runner(feed, rows) for key, runner in runners.items()}
            for key, outputs in found.items():
                fresh[key].add(rows, outputs)
            yield rows, [found[key] if key in found else known[key][index][1] for key in keys]
            self._report(gate, index + 1, len(dataset.data))
        for key, collected in fresh.items():
            self._keep(key, collected)

    def _keep(self, key: str, collected: _Collected) -> None:
        if collected.batches is None:
            return
        self._kept[key] = collected.batches
        while sum(map(_size, self._kept.values())) > self._limit:
            del self._kept[next(iter(self._kept))]

    def _report(self, gate: Gate, done: int, total: int) -> None:
        if self.progress is not None:
            from ort_quant_plugin.progress import ProgressEvent

            self.progress(ProgressEvent(f"gate {gate.name}", done, total))


class _Collected:
    """Batches of one model, given up as soon as they need more than the limit."""

    def __init__(self, limit: int) -> None:
        self.batches: list[tuple[SampleRows, Outputs]] | None = []
        self._left = limit

    def add(self, rows: SampleRows, outputs: Outputs) -> None:
        if self.batches is None:
            return
        self._left -= sum(array.nbytes for array in outputs.values())
        self.batches.append((rows, outputs))
        if self._left < 0:
            self.batches = None


def _size(batches: list[tuple[SampleRows, Outputs]]) -> int:
    return sum(array.nbytes for _, outputs in batches for array in outputs.values())


def _runner(model: ModelFacts, gate: Gate) -> Callable[..., Outputs]:
    session = open_model(model.path, gate.op_libraries, threads=gate.threads)
    names, _ = numeric_outputs(session)

    def run_batch(feed: dict[str, Array], rows: SampleRows) -> Outputs:
        found = zip(names, run(session, names, feed, model.path), strict=True)
        return {name: _counted(array, rows) for name, array in found}

    return run_batch


def row_probe(model: str, gate: Gate) -> Callable[[Feed], bool]:
    """A function that runs a feed and tells whether an output has one row for each row of the feed."""

    def _has_rows(feed: Feed) -> bool:
        session = open_model(model, gate.op_libraries, threads=gate.threads)
        names, _ = numeric_outputs(session)
        count = next(array.shape[0] for array in feed.values() if array.ndim)
        return any(array.ndim and array.shape[0] == count for array in run(session, names, feed, model))

    return _has_rows


def _counted(array: Array, rows: SampleRows) -> Array:
    """Without the rows beyond the last sample that counts."""
    if rows.size == rows.fed or not array.ndim or array.shape[0] != rows.fed:
        return array
    return array[: rows.size]
