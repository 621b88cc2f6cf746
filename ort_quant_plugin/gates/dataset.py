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
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
        has_rows: Whether the first axis of a feed is that of its samples; asked once, about a feed without a name for
            each sample. Otherwise each feed is one sample. ``None``: it always is.
        fixed_batch: Whether the model takes whole batches only.

    Attributes:
        data: As given.
        key: As given, with the limit.
        truncated: Whether samples were left out because of the limit.
        size: Samples fed in the longest pass so far.
        sha256: Of those samples, whatever the batch size.
        last_sha256: Of the samples that the last pass has fed.
    """

    def __init__(
        self,
        data: BatchData,
        key: str,
        max_samples: int | None,
        has_rows: Callable[[Feed], bool] | None = None,
        *,
        fixed_batch: bool = False,
    ) -> None:
        self.data = data
        self.key = f"{key} {max_samples}"
        self.truncated = False
        self.size = 0
        self.sha256 = self.last_sha256 = ""
        self._max_samples = max_samples
        self._has_rows = has_rows
        self._rows_known: bool | None = None
        self._fixed_batch = fixed_batch

    def feeds(self) -> Iterator[tuple[SampleRows, Feed]]:
        """Read the batches; each call starts anew."""
        digest, used = _Digest(), 0
        for index, feed in enumerate(self.data):
            rows = self._rows(self.data.batch_names[index], feed, used)
            digest.update(feed, rows)
            used += rows.size
            self.last_sha256 = digest.hexdigest()
            if used > self.size:
                self.size, self.sha256 = used, self.last_sha256
            full = used == self._max_samples
            self.truncated |= full and (rows.size < rows.fed or index + 1 < len(self.data))
            yield rows, feed
            if full:
                return

    def cut(self, rows: SampleRows, feed: Feed) -> tuple[int, Feed]:
        """A feed without the samples that do not count, and how many it holds; a fixed batch stays whole."""
        if rows.size == rows.fed or self._fixed_batch:
            return rows.fed, feed
        return rows.size, {name: _first_rows(array, rows) for name, array in feed.items()}

    def _rows(self, source: Sequence[str], feed: Feed, used: int) -> SampleRows:
        fed = len(source)
        if fed == 1:
            first = next((array.shape[0] for array in feed.values() if array.ndim), 1)
            if first > 1 and self._rows_known is None:
                self._rows_known = self._has_rows is None or self._has_rows(feed)
            fed = first if self._rows_known or first == 0 else 1
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
        sha256: Of the samples of the last pass.
    """

    def __init__(self, dataset: Dataset, count: int | None = None) -> None:
        self.batch_names = [list(names) for names in dataset.data.batch_names]
        self.key = dataset.key
        self.size = 0
        self.sha256 = ""
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
        for rows, whole in self._dataset.feeds():
            size, feed = self._dataset.cut(rows, whole)
            used += size
            self.size, self.sha256 = max(self.size, used), self._dataset.last_sha256
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
            digest.update(np.ascontiguousarray(_first_rows(array, rows)).data)

    def hexdigest(self) -> str:
        parts = {name: digest.hexdigest() for name, digest in sorted(self._inputs.items())}
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _first_rows(array: Array, rows: SampleRows) -> Array:
    return array[: rows.size] if array.ndim and array.shape[0] == rows.fed else array


def open_dataset(
    spec: Any, gate: Gate, inputs: Sequence[TensorSpec], has_rows: Callable[[Feed], bool] | None = None
) -> Dataset:
    """Open the samples of a gate.

    Args:
        spec: Anything :func:`~ort_quant_plugin.calibration.data.open_data` takes.
        gate: Says how to read them.
        inputs: The model's inputs.
        has_rows: See :class:`Dataset`.

    Raises:
        DataError: They are missing or do not fit.
        ConfigError: The preprocessing is wrong.
    """
    options = dict(gate.preprocess)
    split = options.pop("split", None)
    preprocess = _preprocess(options, gate.name)
    data = open_data(spec, inputs, batch_size=gate.batch_size, preprocess=preprocess, split=split)
    key = data.fingerprint or (f"named {spec}" if isinstance(spec, str) else f"object {id(spec)}")
    fixed_batch = any(spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] > 1 for spec in inputs)
    return Dataset(data, key, gate.max_samples, has_rows, fixed_batch=fixed_batch)


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
