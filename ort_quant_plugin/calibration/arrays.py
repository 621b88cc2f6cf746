"""Arrays: .npy and .npz files streamed batch by batch, and arrays in memory."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.batches import BatchData, group
from ort_quant_plugin.calibration.feeds import describe_shape, name_feed, single_input, static_batch
from ort_quant_plugin.calibration.fingerprint import array_state, file_state
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ort_quant_plugin.calibration.feeds import Array, Feed
    from ort_quant_plugin.model import TensorSpec

__all__ = ["open_arrays", "open_npy", "open_npz", "read_npy"]

_READ_ERRORS = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class _ArrayFile:
    """One array in the .npy format, readable from the start any number of times."""

    name: str
    open: Callable[[], IO[bytes]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @classmethod
    def inspect(cls, name: str, opener: Callable[[], IO[bytes]]) -> _ArrayFile:
        """Read the header.

        Raises:
            DataError: not a .npy array, or an array of python objects.
        """
        try:
            with opener() as stream:
                shape, fortran, dtype = _header(stream)
        except FileNotFoundError as error:
            raise DataError(f"{name} does not exist.", hint="Check the path.", path=name) from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{name} is not a readable .npy array: {error}.", hint="Write it with numpy.save.", path=name
            ) from error
        if dtype.hasobject or dtype.kind not in "biuf":
            raise DataError(
                f"{name} has dtype {dtype}; expected numbers.",
                hint="Save a plain numeric array.",
                path=name,
                value=str(dtype),
            )
        return cls(name, opener, shape, dtype, fortran)

    def rows(self, batch_size: int, begin: int = 0, end: int | None = None) -> Iterator[Array]:
        """Yield entries ``begin`` to ``end − 1`` of the first axis, ``batch_size`` at a time; read no more than that.

        Raises:
            DataError: the file ends early.
        """
        row = int(math.prod(self.shape[1:])) * self.dtype.itemsize
        end = self.shape[0] if end is None else min(end, self.shape[0])
        with self.open() as stream:
            _header(stream)
            if self.fortran:  # rows are not contiguous in the file: only the whole array can be read
                data = np.frombuffer(self._take(stream, row * self.shape[0]), self.dtype)
                whole = data.reshape(self.shape, order="F")
                yield from (whole[start : min(start + batch_size, end)] for start in range(begin, end, batch_size))
                return
            self._skip(stream, row * begin)
            for start in range(begin, end, batch_size):
                count = min(batch_size, end - start)
                yield np.frombuffer(self._take(stream, row * count), self.dtype).reshape(count, *self.shape[1:])

    def _skip(self, stream: IO[bytes], size: int) -> None:
        try:
            stream.seek(size, 1)  # a compressed member of a .npz is read over, in pieces
        except _READ_ERRORS as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.name} cannot be read: {error}.", hint="Write the file again.", path=self.name)

    def _take(self, stream: IO[bytes], size: int) -> bytes:
        try:
            data = stream.read(size)
        except _READ_ERRORS as error:
            raise self._unreadable(error) from error
        if len(data) != size:
            raise DataError(
                f"{self.name} ends early: {size - len(data)} bytes of {describe_shape(self.shape)} {self.dtype} are "
                "missing.",
                hint="Write the file again.",
                path=self.name,
            )
        return data


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def read_npy(path: Path) -> Array:
    """Read one whole .npy array.

    Raises:
        DataError: the file is missing, broken, or holds no numbers.
    """
    file = _ArrayFile.inspect(str(path), lambda: path.open("rb"))
    if not file.shape or 0 in file.shape:
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} cannot be read: {error}.", hint="Write the file again.", path=str(path)) from error
    return next(file.rows(file.shape[0]))


def open_npy(path: Path, specs: Sequence[TensorSpec], batch_size: int) -> BatchData:
    """Open a .npy file for the model's only input; its first axis is the sample axis."""
    spec = single_input(specs, f"{path}")
    return _stream({spec.name: _ArrayFile.inspect(str(path), lambda: path.open("rb"))}, specs, batch_size, path)


def open_npz(path: Path, specs: Sequence[TensorSpec], batch_size: int) -> BatchData:
    """Open a .npz file with one array per input name; the first axis of each is the sample axis.

    Raises:
        DataError: not a .npz, arrays missing or unknown, or arrays with different numbers of samples.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.", hint="Check the path.", path=str(path)) from error
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not a readable .npz file: {error}.", hint="Write it with numpy.savez.", path=str(path)
        ) from error
    names = [member.removesuffix(".npy") for member in members]
    wanted = [spec.name for spec in specs]
    # numpy.savez writes a positional array as arr_0; it can only mean the only input.
    keys = {wanted[0]: "arr_0"} if names == ["arr_0"] and len(wanted) == 1 else {name: name for name in names}
    if set(keys) != set(wanted):
        raise DataError(
            f"{path} holds the arrays {', '.join(map(repr, names)) or 'nothing'}, but the model's inputs are "
            f"{', '.join(map(repr, wanted))}.",
            hint="Save one array per input: numpy.savez(path, **{input name: array}).",
            path=str(path),
            value=names,
            expected=wanted,
        )

    def opener(member: str) -> Callable[[], IO[bytes]]:
        # The archive is closed when the member is: ZipFile keeps its file open as long as a member reads it.
        def open_member() -> IO[bytes]:
            with zipfile.ZipFile(path) as archive:
                return archive.open(member)

        return open_member

    files = {name: _ArrayFile.inspect(f"{path}[{keys[name]}]", opener(f"{keys[name]}.npy")) for name in wanted}
    return _stream(files, specs, batch_size, path)


def _stream(files: Mapping[str, _ArrayFile], specs: Sequence[TensorSpec], batch_size: int, path: Path) -> BatchData:
    size, dynamic = static_batch(specs, batch_size)
    counts = _count_samples({file.name: file.shape for file in files.values()}, path.name)
    names, notes, dropped = group([f"{path.name}[{index}]" for index in range(counts)], size, keep_rest=dynamic)

    def read(start: int, stop: int) -> Iterator[Feed]:
        for rows in zip(*(file.rows(size, start * size, stop * size) for file in files.values()), strict=True):
            yield dict(zip(files, rows, strict=True))

    return BatchData(specs, names, read, notes, dropped, identity=lambda: file_state(path))


def open_arrays(arrays: Mapping[str, Any], specs: Sequence[TensorSpec], batch_size: int) -> BatchData:
    """Batch arrays that are in memory already, one per input name; their first axis is the sample axis.

    Raises:
        DataError: a value is not numeric, the names are not the inputs', or the numbers of samples differ.
    """
    wanted = [spec.name for spec in specs]
    if set(arrays) != set(wanted):
        raise DataError(
            f"The mapping holds {', '.join(map(repr, arrays)) or 'nothing'}, but the model's inputs are "
            f"{', '.join(map(repr, wanted))}.",
            hint="Give one array per input name.",
            value=list(arrays),
            expected=wanted,
        )
    whole = name_feed(arrays, specs, "The data")
    size, dynamic = static_batch(specs, batch_size)
    count = _count_samples({f"array '{name}'": array.shape for name, array in whole.items()}, "array")
    names, notes, dropped = group([f"array[{index}]" for index in range(count)], size, keep_rest=dynamic)

    def read(start: int, stop: int) -> Iterator[Feed]:
        for index in range(start, stop):
            yield {name: array[index * size : (index + 1) * size] for name, array in whole.items()}

    def identity() -> object:
        return {name: array_state(array) for name, array in whole.items()}

    return BatchData(specs, names, read, notes, dropped, identity=identity)


def _count_samples(shapes: Mapping[str, tuple[int, ...]], label: str) -> int:
    """Return the common length of the first axis of arrays given by source name."""
    for source, shape in shapes.items():
        if not shape:
            raise DataError(
                f"{source} is a single number; expected an array of samples.", hint="Add a sample axis.", source=source
            )
    counts = {source: shape[0] for source, shape in shapes.items()}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{source}: {count}" for source, count in counts.items())
        raise DataError(
            f"The arrays hold different numbers of samples ({listing}).",
            hint="Give every input the same first axis, or yield feeds from 'module:callable'.",
            value=counts,
        )
    total = next(iter(counts.values()))
    if total == 0:
        raise DataError(f"{label} holds no samples.", hint="Save at least one sample.", source=label)
    return total
