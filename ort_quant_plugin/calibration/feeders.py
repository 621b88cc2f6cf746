"""Python objects as data: iterables of feeds, callables that return one, and callables named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.batches import BatchData
from ort_quant_plugin.calibration.feeds import name_feed
from ort_quant_plugin.calibration.fingerprint import array_state
from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from ort_quant_plugin.calibration.feeds import Feed
    from ort_quant_plugin.model import TensorSpec

__all__ = ["NamedObject", "load_module", "load_object", "open_factory", "open_iterable"]


class NamedObject:
    """A callable by its name on the command line; a worker process that receives it imports it by that name.

    Args:
        spec: See :func:`load_object`.

    Attributes:
        found: The object of that name.

    Raises:
        DataError: As :func:`load_object`.
    """

    def __init__(self, spec: str) -> None:
        self.found = load_object(spec)
        self._spec = spec

    def __call__(self) -> Any:
        """Call the object without arguments."""
        return self.found()

    def __reduce__(self) -> tuple[type[NamedObject], tuple[str]]:
        return NamedObject, (self._spec,)


def load_object(spec: str) -> Any:
    """Import ``module:name`` or ``path/to/file.py:name``; modules in the working directory are found too.

    Raises:
        DataError: the module cannot be imported, or has no such name.
    """
    module_name, _, attribute = spec.rpartition(":")
    module = load_module(module_name)
    if not hasattr(module, attribute):
        raise DataError(f"'{module_name}' has no '{attribute}'.", hint="Check the name after the colon.", value=spec)
    return getattr(module, attribute)


def load_module(name: str) -> ModuleType:
    """Import a module by name (the working directory counts) or by the path of a ``.py`` file.

    Raises:
        DataError: it cannot be imported.
    """
    try:
        return _import(name)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise DataError(
            f"'{name}' cannot be imported: {type(error).__name__}: {error}.",
            hint="Check the name, and that its folder is the working directory or on PYTHONPATH.",
            value=name,
        ) from error


def _import(name: str) -> ModuleType:
    if name.endswith(".py"):
        location = importlib.util.spec_from_file_location(Path(name).stem, name)
        if location is None or location.loader is None:
            raise ImportError(f"{name} is not a python file")
        module = importlib.util.module_from_spec(location)
        location.loader.exec_module(module)
        return module
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def open_factory(factory: Callable[[], Any], inputs: Sequence[TensorSpec], label: str) -> BatchData:
    """Open a callable without arguments that returns an iterable of feeds; it is called once per pass.

    A result without a length is run through once to count its batches.

    Raises:
        DataError: the callable fails, or returns something else or nothing.
    """

    def make() -> Iterable[Any]:
        try:
            made = factory()
        except Exception as error:
            raise _user_code_failed(label, error) from error
        if isinstance(made, (np.ndarray, Mapping, str)) or not isinstance(made, Iterable):
            raise DataError(
                f"{label} returned a {type(made).__name__}; expected an iterable of feeds.",
                hint="Yield one feed per batch: a dict {input name: array}, a list of arrays, or one array.",
                value=label,
            )
        return made

    first = make()
    length = len(first) if isinstance(first, Sized) else sum(1 for _ in _guarded(first, label))
    return _open(make, length, inputs, label)


def open_iterable(items: Iterable[Any], inputs: Sequence[TensorSpec], label: str) -> BatchData:
    """Open an iterable of feeds. An iterator, which can run only once, is kept in memory as a list.

    Raises:
        DataError: the iterable fails or is empty.
    """
    if isinstance(items, Iterator):
        items = list(_guarded(items, label))
    length = len(items) if isinstance(items, Sized) else sum(1 for _ in _guarded(items, label))
    held = items if isinstance(items, (list, tuple)) else None
    return _open(lambda: items, length, inputs, label, held)


def _open(
    make: Callable[[], Iterable[Any]],
    length: int,
    inputs: Sequence[TensorSpec],
    label: str,
    held: Sequence[Any] | None = None,
) -> BatchData:
    if length == 0:
        raise DataError(f"{label} gives no batches.", hint="Yield at least one feed.", value=label)
    names = [[f"batch {index} of {label}"] for index in range(length)]

    def read(start: int, stop: int) -> Iterator[Feed]:
        for index, item in enumerate(_guarded(itertools.islice(make(), start, stop), label), start):
            yield name_feed(item, inputs, names[index][0])

    def identity() -> object:
        if held is None:
            return None
        feeds = (name_feed(item, inputs, names[index][0]) for index, item in enumerate(held))
        return [{name: array_state(array) for name, array in feed.items()} for feed in feeds]

    return BatchData(inputs, names, read, identity=identity)


def _guarded(items: Iterable[Any], label: str) -> Iterator[Any]:
    try:
        yield from items
    except DataError:
        raise
    except Exception as error:
        raise _user_code_failed(label, error) from error


def _user_code_failed(label: str, error: Exception) -> DataError:
    return DataError(
        f"{label} failed: {type(error).__name__}: {error}.", hint="Correct the code that makes the data.", value=label
    )
