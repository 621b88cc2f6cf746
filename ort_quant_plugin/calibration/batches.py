"""The one concrete data class: a list of sample names per batch and a way to read the batches again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ort_quant_plugin.calibration.feeds import fit_feed
from ort_quant_plugin.calibration.fingerprint import digest
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ort_quant_plugin.calibration.feeds import Feed
    from ort_quant_plugin.model import TensorSpec

__all__ = ["BatchData", "CalibrationData", "group", "source_label"]


@runtime_checkable
class CalibrationData(Protocol):
    """What calibration and comparison iterate over.

    Attributes:
        batch_names: Where each sample of each batch comes from (file name, ``file.npy[3]``, ``batch 0``).
    """

    batch_names: list[list[str]]

    def __len__(self) -> int:
        """Return the number of batches."""
        ...

    def __iter__(self) -> Iterator[Feed]:
        """Yield one feed ``{input name: array}`` per batch; each call starts anew and gives the same order."""
        ...


class BatchData:
    """Lazy, re-iterable batches: reads one batch, checks it against the model's inputs, yields it, forgets it.

    A cloudpickle of it reads the same data in another process with the same working directory.

    Args:
        specs: The model's inputs.
        batch_names: See the attribute.
        read: ``read(start, stop)`` yields batches start to stop − 1 and touches no others.
        notes: See the attribute.
        dropped: See the attribute.
        identity: What tells this source from others, beyond inputs and names: a value JSON can hold,
            ``None`` where it cannot be known.

    Attributes:
        batch_names: Source of each sample, one list per batch.
        notes: What the user should know and would not see (samples dropped from an incomplete batch).
        dropped: How many samples were dropped.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        batch_names: list[list[str]],
        read: Callable[[int, int], Iterator[Feed]],
        notes: Sequence[str] = (),
        dropped: int = 0,
        *,
        identity: Callable[[], object] = lambda: None,
    ) -> None:
        self.batch_names = batch_names
        self.notes = list(notes)
        self.dropped = dropped
        self._specs = list(specs)
        self._read = read
        self._identity = identity
        self._all_names = batch_names
        self._start = 0

    def __len__(self) -> int:
        return len(self.batch_names)

    def __iter__(self) -> Iterator[Feed]:
        count = 0
        feeds = self._read(self._start, self._start + len(self))
        for names, feed in zip(self.batch_names, feeds, strict=False):
            yield fit_feed(feed, self._specs, source_label(names))
            count += 1
        if count < len(self.batch_names):
            where = f" from batch {self._start} on" if self._start else ""
            raise DataError(
                f"The data gave {count} batches{where}, but {len(self.batch_names)} at the first look.",
                hint="Let the source yield the same batches every time it is read.",
                value=count,
                expected=len(self.batch_names),
            )

    def head(self, limit: int | None) -> BatchData:
        """Return the first ``limit`` batches (all of them for ``None``).

        Raises:
            DataError: ``limit`` is below 1.
        """
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise DataError(
                f"The number of batches is {limit}; expected at least 1.", hint="Use 1 or more.", value=limit
            )
        return self.select(0, limit)

    def select(self, start: int, stop: int) -> BatchData:
        """Return batches ``start`` to ``stop − 1`` (counted from 0); the others are not read, let alone decoded.

        Batches of an iterable are skipped by running through it.

        Raises:
            DataError: ``0 ≤ start ≤ stop ≤ len(self)`` does not hold.
        """
        if not 0 <= start <= stop <= len(self):
            raise DataError(
                f"The data has {len(self)} batches; a selection of [{start}, {stop}) is not possible.",
                hint=f"Select within [0, {len(self)}).",
                value=(start, stop),
                expected=len(self),
            )
        if stop - start == len(self):
            return self
        part = copy.copy(self)
        part.batch_names, part.notes = self.batch_names[start:stop], list(self.notes)
        part._start = self._start + start
        return part

    @property
    def fingerprint(self) -> str | None:
        """Hex digest of data, preprocessing, model inputs and batches; ``None`` for code that makes the data.

        Files count with name (relative to the data's folder), size and time of change; arrays in memory with their
        values. Determined anew at each call; a selection of everything has the fingerprint of the whole.
        """
        known = self._identity()
        if known is None:
            return None
        inputs = [[spec.name, str(np.dtype(spec.dtype)), spec.shape] for spec in self._specs]
        whole = digest(inputs, self._all_names, known)
        return whole if len(self) == len(self._all_names) else digest(whole, self._start, len(self))


def source_label(names: Sequence[str]) -> str:
    """Name a batch in a message: its only sample, or the first and last one."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def group(names: Sequence[str], batch_size: int, *, keep_rest: bool) -> tuple[list[list[str]], list[str], int]:
    """Split sample names into batches; return them with notes about what was dropped, and how many samples were.

    Args:
        names: One name per sample, in order.
        batch_size: Samples per batch.
        keep_rest: Whether the last, incomplete batch may be used (False where the model's batch is static).

    Raises:
        DataError: fewer samples than one full batch needs.
    """
    batches = [list(names[start : start + batch_size]) for start in range(0, len(names), batch_size)]
    if keep_rest or not batches or len(batches[-1]) == batch_size:
        return batches, [], 0
    rest = batches.pop()
    if not batches:
        raise DataError(
            f"The data holds {len(rest)} samples, but the model runs batches of {batch_size}.",
            hint=f"Give at least {batch_size} samples.",
            value=len(rest),
            expected=batch_size,
        )
    note = (
        f"{len(rest)} of {len(names)} samples left out: the model runs batches of {batch_size} "
        f"and the last one is incomplete ({source_label(rest)})."
    )
    return batches, [note], len(rest)
