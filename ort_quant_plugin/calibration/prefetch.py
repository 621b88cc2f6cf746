"""Make the next batches while the current one runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType

__all__ = ["Prefetch", "prefetch"]

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int = 4) -> Prefetch[T]:
    """Iterate in a thread of its own, up to ``depth`` items ahead; what decodes in C (Pillow, numpy) runs in parallel.

    Args:
        items: Iterated once, from the first ``next()`` on, in the background thread alone.
        depth: Items that may be ready or in the making while nobody has asked for them; at least 1.

    Returns:
        The same items in the same order, then the error the iteration ended with, if any, as it was raised. Stop
        early with ``close()`` or a ``with`` block: the thread ends with the item it is making.

    Raises:
        ConfigError: ``depth`` is below 1.
    """
    if depth < 1:
        raise ConfigError(f"The prefetch depth is {depth}; expected at least 1.", hint="Use 1 or more.", value=depth)
    return Prefetch(_consume(items, depth))


class Prefetch(Iterator[T], Generic[T]):
    """What :func:`prefetch` returns: an iterator to be closed; forgetting it closes it too."""

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items

    def __next__(self) -> T:
        return next(self._items)

    def close(self) -> None:
        """Stop the thread and wait for it; nothing comes after. May be called again."""
        self._items.close()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _End:
    """The last entry of the queue."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _consume(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    ready: SimpleQueue[T | _End] = SimpleQueue()
    free = threading.Semaphore(depth)
    stopped = threading.Event()
    # The thread knows nothing of this generator, so dropping the generator closes it.
    thread = threading.Thread(
        target=_produce, args=(items, ready, free, stopped), name="ort-quant-prefetch", daemon=True
    )
    try:
        thread.start()
        while not isinstance(item := ready.get(), _End):
            free.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        free.release()
        if thread.ident is not None:  # else an interrupt came before it started
            thread.join()


def _produce(
    items: Iterable[T], ready: SimpleQueue[T | _End], free: threading.Semaphore, stopped: threading.Event
) -> None:
    try:
        iterator = iter(items)
        while True:
            free.acquire()  # before the item is made, so that no more than ``depth`` wait
            if stopped.is_set():
                return
            try:
                item = next(iterator)
            except StopIteration:
                break
            ready.put(item)
    except BaseException as error:  # whatever it is, it belongs to the consumer
        ready.put(_End(error))
    else:
        ready.put(_End(None))
