"""Evaluation samples: opened as a gate says, cut to its number of samples, and identified by what was fed."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.data import ImagePreprocess, open_data
from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ort_quant_plugin.calibration.batches import BatchData
    from ort_quant_plugin.calibration.feeds import Array, Feed
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.model import TensorSpec

__all__ = ["Dataset", "FirstSamples", "SampleRows", "open_dataset"]


@dataclass(frozen=True)
class SampleRows:
    """Which samples one batch has.

    Attributes:
        source: Where they come from: one name a sample, or one for all of them.
        size: How many count; those beyond are fed, but belong to no sample (the gate has enough).
        fed: How many are fed.
    """

    source: Sequence[str]
    size: int
    fed: int

    @property
    def names(self) -> list[str]:
        """One name per sample."""
        if len(self.source) == self.fed:
            return list(self.source[: self.size])
        return [f"{self.source[0]}[{index}]" for index in range(self.size)]

    def count(self, outputs: Mapping[str, Array]) -> int:
        """How many samples the outputs are of: one where no name and no output tells samples apart.

        The first axis of an input need not be that of samples: a feed may be one sound of n values.
        """
        named = len(self.source) > 1
        has_rows = any(array.ndim and array.shape[0] == self.size for array in outputs.values())
        return self.size if named or has_rows else 1


class Dataset:
    """Batches of samples, at most ``max_samples`` of them.

    Args:
        data: The batches.
        key: Tells this data from others within one run.
        max_samples: Limit, ``None`` for all.

    Attributes:
        data: As given.
        key: As given, with the limit.
        truncated: Whether samples were left out, because of the limit or in an incomplete batch.
        size: Samples fed in the longest pass so far.
        sha256: Of those samples, whatever the batch size.
    """

    def __init__(self, data: BatchData, key: str, max_samples: int | None) -> None:
        self.data = data
        self.key = f"{key} {max_samples}"
        self.truncated = bool(data.notes)
        self.size = 0
        self.sha256 = ""
        self._max_samples = max_samples

    def feeds(self) -> Iterator[tuple[SampleRows, Feed]]:
        """Read the batches; each call starts anew."""
        digest, used = _Digest(), 0
        for index, feed in enumerate(self.data):
            rows = self._rows(self.data.batch_names[index], feed, used)
            digest.update(feed, rows)
            used += rows.size
            if used > self.size:
                self.size, self.sha256 = used, digest.hexdigest()
            full = used == self._max_samples
            self.truncated |= full and (rows.size < rows.fed or index + 1 < len(self.data))
            yield rows, feed
            if full:
                return

    def _rows(self, source: Sequence[str], feed: Feed, used: int) -> SampleRows:
        first = next((array.shape[0] for array in feed.values() if array.ndim), 1)
        fed = len(source) if len(source) > 1 else first
        left = fed if self._max_samples is None else self._max_samples - used
        return SampleRows(source, min(fed, left), fed)


class FirstSamples:
    """The first batches of a dataset, as comparisons and calibration want their data.

    Args:
        dataset: All samples.
        count: Batches are read until they hold that many samples; ``None`` for all.

    Attributes:
        batch_names: Where the samples come from, batch by batch, as far as is known before they are read.
        key: The dataset's.
        size: Samples read in the longest pass.
    """

    def __init__(self, dataset: Dataset, count: int | None = None) -> None:
        self.batch_names = [list(names) for names in dataset.data.batch_names]
        self.key = dataset.key
        self.size = 0
        self._dataset = dataset
        self._count = count

    @property
    def complete(self) -> bool:
        """Whether these are all samples that anybody has read so far."""
        return self.size >= self._dataset.size

    def __len__(self) -> int:
        return len(self.batch_names)

    def __iter__(self) -> Iterator[Feed]:
        used = 0
        for rows, feed in self._dataset.feeds():
            used += rows.size
            self.size = max(self.size, used)
            yield feed
            if self._count is not None and used >= self._count:
                return


class _Digest:
    """SHA-256 over samples, input by input, so that the split into batches does not matter."""

    def __init__(self) -> None:
        self._inputs: dict[str, Any] = {}
        self._forms: dict[str, str] = {}

    def update(self, feed: Feed, rows: SampleRows) -> None:
        for name, array in feed.items():
            digest = self._inputs.setdefault(name, hashlib.sha256())
            form = f"{array.dtype.str} {array.shape[1:]}"
            if self._forms.get(name) != form:
                self._forms[name] = form
                digest.update(form.encode())
            used = array[: rows.size] if array.ndim and array.shape[0] == rows.fed else array
            digest.update(np.ascontiguousarray(used).data)

    def hexdigest(self) -> str:
        parts = {name: digest.hexdigest() for name, digest in sorted(self._inputs.items())}
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def open_dataset(spec: Any, gate: Gate, inputs: Sequence[TensorSpec]) -> Dataset:
    """Open the samples of a gate.

    Args:
        spec: Anything :func:`~ort_quant_plugin.calibration.data.open_data` takes.
        gate: Says how to read them.
        inputs: The model's inputs.

    Raises:
        DataError: They are missing or do not fit.
        ConfigError: The preprocessing is wrong.
    """
    options = dict(gate.preprocess)
    split = options.pop("split", None)
    preprocess = _preprocess(options, gate.name)
    data = open_data(spec, inputs, batch_size=gate.batch_size, preprocess=preprocess, split=split)
    key = data.fingerprint or (f"named {spec}" if isinstance(spec, str) else f"object {id(spec)}")
    return Dataset(data, key, gate.max_samples)


def _preprocess(options: Mapping[str, Any], gate: str) -> ImagePreprocess:
    known = [item.name for item in fields(ImagePreprocess)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, "split"], n=1)
            raise ConfigError(
                f"gate {gate!r}: preprocess has no option {name!r}.",
                hint=f"Did you mean {near[0]!r}?" if near else f"Legal here: {', '.join(known)}, split.",
                value=name,
                expected=known,
            )
    try:
        return ImagePreprocess(**{name: _python_form(name, value) for name, value in options.items()})
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"gate {gate!r}: preprocess {dict(options)!r} cannot be read: {error}.",
            hint="Give numbers or lists of numbers, such as mean = [127, 127, 127] and crop = 224.",
            value=dict(options),
        ) from error


def _python_form(name: str, value: Any) -> Any:
    """Numbers and lists, or the text the command line takes for them, as :class:`ImagePreprocess` wants them."""
    if name not in ("mean", "std", "resize", "crop"):
        return value
    number = float if name in ("mean", "std") else int
    parts = value.replace("x", ",").split(",") if isinstance(value, str) else value
    numbers = tuple(map(number, parts)) if isinstance(parts, (list, tuple)) else (number(parts),)
    return numbers[0] if len(numbers) == 1 and number is int else numbers
