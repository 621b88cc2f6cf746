"""The requests of one load generator: made once, sent again and again, through the connection or shared memory."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.wire import IncompleteError, read_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.shared_memory import SharedMemory

    import numpy as np
    from numpy.typing import NDArray

    from ort_quant_plugin.triton.client import TritonClient
    from ort_quant_plugin.triton.served import ServedModel

    Array = NDArray[np.generic]
    Arrays = Mapping[str, Array]

__all__ = ["REGION_PREFIX", "PlainRequests", "SharedRequests"]

REGION_PREFIX = "ort_quant_requests_"
"""What the names of shared memory start with; the process id follows."""

_ALIGNMENT = 64
_STALE = 0xA5


class PlainRequests:
    """Requests that carry their data.

    Args:
        client: The connection; it is not closed.
        model: The model.
        feeds: One entry a request.
        outputs: Outputs to fetch.
    """

    def __init__(
        self, client: TritonClient, model: ServedModel, feeds: Sequence[Arrays], outputs: Sequence[str]
    ) -> None:
        self._client, self._model, self._names = client, model, list(outputs)
        self._inputs = [[client.input(name, array) for name, array in feed.items()] for feed in feeds]
        self._outputs = [client.output(name) for name in outputs]

    def send(self, index: int) -> Arrays:
        """Send one and return what came back.

        Raises:
            TritonError: No answer, or a damaged one.
        """
        return self._client.send(
            self._model.name,
            self._inputs[index],
            self._outputs,
            version=self._model.version,
            retry=False,
            read=lambda result: read_arrays(result, self._names),
        )

    def close(self) -> None:
        """Nothing to give back."""


class SharedRequests:
    """Requests whose data lies in memory shared with the server, which must run on the same machine.

    All inputs are in place from the start; the outputs of one request lie over those of the other.

    Args:
        client: The connection; it is not closed.
        model: The model.
        feeds: One entry a request.
        answers: What each is answered with, for types and sizes.

    Raises:
        TritonError: A tensor is text, or the server cannot map the memory.
    """

    def __init__(
        self, client: TritonClient, model: ServedModel, feeds: Sequence[Arrays], answers: Sequence[Arrays]
    ) -> None:
        _refuse_text([*feeds, *answers], model)
        self._client, self._model, self._answers = client, model, answers
        self._given = _Region(client, sum(_padded(array) for feed in feeds for array in feed.values()))
        try:
            self._taken = _Region(client, max(sum(map(_padded, answer.values())) for answer in answers))
        except BaseException:
            self._given.close()
            raise
        offset = 0
        self._inputs: list[list[Any]] = []
        for feed in feeds:
            self._inputs.append([])
            for name, array in feed.items():
                self._given.write(array, offset)
                tensor = client.empty_input(name, array)
                tensor.set_shared_memory(self._given.name, array.nbytes, offset)
                self._inputs[-1].append(tensor)
                offset += _padded(array)

    def send(self, index: int) -> Arrays:
        """Send one and return a copy of what came back.

        Raises:
            TritonError: No answer, or one of another shape.
        """
        self._taken.fill()  # so that an answer that is not written does not look like the one before
        offsets, outputs, offset = {}, [], 0
        for name, array in self._answers[index].items():
            output = self._client.output(name)
            output.set_shared_memory(self._taken.name, array.nbytes, offset)
            outputs.append(output)
            offsets[name] = offset
            offset += _padded(array)
        return self._client.send(
            self._model.name,
            self._inputs[index],
            outputs,
            version=self._model.version,
            retry=False,
            read=lambda result: self._read(result, index, offsets),
        )

    def _read(self, result: Any, index: int, offsets: Mapping[str, int]) -> Arrays:
        arrays = {}
        for name, expected in self._answers[index].items():
            entry = result.get_output(name)
            shape = None if entry is None else tuple(entry["shape"] if isinstance(entry, dict) else entry.shape)
            if shape is None or tuple(map(int, shape)) != expected.shape:
                raise IncompleteError(f"output {name!r} has the shape {shape}, expected {expected.shape}")
            arrays[name] = self._taken.read(expected, offsets[name])
        return arrays

    def close(self) -> None:
        """Give the memory back."""
        self._given.close()
        self._taken.close()


class _Region:
    """Shared memory the server knows."""

    def __init__(self, client: TritonClient, size: int) -> None:
        from multiprocessing.shared_memory import SharedMemory

        self.name = f"{REGION_PREFIX}{os.getpid()}_{uuid.uuid4().hex}"
        self._client = client
        self._memory: SharedMemory = SharedMemory(self.name, create=True, size=max(size, 1))
        self._stale = bytes([_STALE]) * self._memory.size
        try:
            client.share(self.name, f"/{self.name}", self._memory.size)
        except TritonError as error:
            self._release()
            raise TritonError(
                f"The server cannot map shared memory: {error.details.get('reason', error.message)}",
                hint="Shared memory works only between programs on one machine, with one /dev/shm.",
                url=str(client.address),
            ) from error

    @property
    def _buffer(self) -> memoryview:
        buffer = self._memory.buf
        assert buffer is not None  # it is there until the region is closed
        return buffer

    def write(self, array: Array, offset: int) -> None:
        self._buffer[offset : offset + array.nbytes] = array.tobytes()

    def read(self, like: Array, offset: int) -> Array:
        import numpy as np

        data = bytes(self._buffer[offset : offset + like.nbytes])
        return np.frombuffer(data, like.dtype).reshape(like.shape)

    def fill(self) -> None:
        self._buffer[:] = self._stale

    def close(self) -> None:
        with suppress(TritonError):  # a server that has gone has forgotten it
            self._client.unshare(self.name)
        self._release()

    def _release(self) -> None:
        self._memory.close()
        self._memory.unlink()


def _padded(array: Array) -> int:
    return -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT


def _refuse_text(feeds: Sequence[Arrays], model: ServedModel) -> None:
    for feed in feeds:
        for name, array in feed.items():
            if array.dtype == object:
                raise TritonError(
                    f"{name!r} of {model.label!r} is text, whose size is not known beforehand.",
                    hint="Measure this model without --shared-memory.",
                    model=model.name,
                    tensor=name,
                )
