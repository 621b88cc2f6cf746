"""One gate's models, data, labels and options, as metrics see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import DataError, ModelError
from ort_quant_plugin.gates.dataset import FirstSamples
from ort_quant_plugin.gates.metrics.base import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ort_quant_plugin.calibration.feeds import Feed
    from ort_quant_plugin.gates.dataset import Dataset, SampleRows
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.metrics.base import Array
    from ort_quant_plugin.gates.model_files import ModelFacts
    from ort_quant_plugin.gates.outputs import OutputCache

__all__ = ["Evaluation"]


@dataclass
class Evaluation:
    """What a metric measures.

    Attributes:
        gate: The gate.
        options: Options of the metric, defaults filled in.
        model: The quantized model.
        reference: The float model, ``None`` where the gate has none.
        labels: The truth of every sample of the data, ``None`` for metrics without labels.
        dataset: The samples; ``None`` for metrics that run nothing.
        cache: Outputs of earlier runs.
    """

    gate: Gate
    options: Mapping[str, Any]
    model: ModelFacts
    reference: ModelFacts | None
    labels: Sequence[Any] | None
    dataset: Dataset | None
    cache: OutputCache
    _part: FirstSamples | None = field(default=None, init=False, repr=False)

    @property
    def data_sha256(self) -> str:
        """Digest of the samples the metric has read, whatever other gates read."""
        return self._part.sha256 if self._part is not None else self._dataset().sha256

    def batches(self) -> Iterator[tuple[Batch, Mapping[str, Array]]]:
        """Run the models over the samples; yields each batch with the quantized model's outputs.

        The float model's outputs are ``batch.reference``. Models whose outputs an earlier gate of the run has asked for
        are not run again.

        Raises:
            ModelError: A model cannot be loaded, or the two have other outputs.
            DataError: ONNX Runtime refuses the data, there are no samples, or labels and samples do not match.
        """
        dataset = self._dataset()
        self._part = None
        models = [self.model] if self.reference is None else [self.model, self.reference]
        start = 0
        for rows, found in self.cache.run(models, dataset, self.gate):
            if self.reference is not None:
                self._check_outputs(found[0], found[1])
            size = rows.count(found[0])
            batch = Batch(
                start=start,
                size=size,
                names=rows.names[:size],
                labels=self._labels(start, size),
                reference=found[1] if self.reference is not None else None,
                options=self.options,
            )
            start += size
            yield batch, found[0]
        self._check_label_count(start)

    def batches_fed(self) -> Iterator[tuple[SampleRows, Feed]]:
        """The samples themselves, batch by batch, with what each batch holds."""
        self._part = None
        yield from self._dataset().feeds()

    def samples(self, count: int | None = None) -> FirstSamples:
        """The samples themselves, at least ``count`` of them (default: all), for what runs models on its own."""
        self._part = FirstSamples(self._dataset(), count)
        return self._part

    def _dataset(self) -> Dataset:
        assert self.dataset is not None, "the metric says that it needs no data"
        return self.dataset

    def _check_outputs(self, found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        assert self.reference is not None
        if not set(found) <= set(expected):
            raise ModelError(
                f"{self.model.path!r} has the outputs {', '.join(found)}, but {self.reference.path!r} has "
                f"{', '.join(expected)}.",
                hint="Compare a model with the float model it was made from.",
                path=self.model.path,
                expected=list(expected),
                value=list(found),
            )

    def _labels(self, start: int, size: int) -> Sequence[Any] | None:
        if self.labels is None:
            return None
        part: Sequence[Any] = self.labels[start : start + size]
        if len(part) < size:
            raise self._label_error(start + size)
        return part

    def _check_label_count(self, used: int) -> None:
        dataset = self._dataset()
        if self.labels is None or dataset.truncated or len(self.labels) in (used, used + dataset.data.dropped):
            return
        raise self._label_error(used + dataset.data.dropped)

    def _label_error(self, samples: int) -> DataError:
        assert self.labels is not None
        least = "" if len(self.labels) > samples else "at least "
        return DataError(
            f"There are {len(self.labels)} labels for {least}{samples} samples.",
            hint="Give one label per sample.",
            value=len(self.labels),
            expected=samples,
        )
