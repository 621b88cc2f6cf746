"""Packages only some metrics need, and users' own functions."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.feeders import load_object
from ort_quant_plugin.config.parameters import Parameter
from ort_quant_plugin.errors import ConfigError, DataError, RuntimeMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ort_quant_plugin.gates.metrics.base import Array

__all__ = ["DECODE", "call_decoder", "load_decoder", "one_sample", "require"]

DECODE = Parameter(
    "decode", "str", None, "", "Function that reads a model's outputs, 'module:callable' or 'file.py:callable'."
)


def require(module: str, distribution: str, metric: str) -> Any:
    """Import a package of the extra ``gate``.

    Raises:
        RuntimeMissingError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RuntimeMissingError(
            f"The gate metric {metric!r} needs {distribution}, which cannot be imported: {error}.",
            hint="pip install 'ort-quant-plugin[gate]'",
            metric=metric,
        ) from error


def load_decoder(spec: str) -> Callable[..., Any]:
    """The function an option ``decode`` names; a file is run once, and again only when it has changed.

    Raises:
        ConfigError: It cannot be imported or is no function.
    """
    file = Path(spec.rpartition(":")[0])
    return _load(spec, file.stat().st_mtime_ns if file.is_file() else None)


@functools.lru_cache(maxsize=16)
def _load(spec: str, changed: int | None) -> Callable[..., Any]:
    del changed
    try:
        found = load_object(spec)
    except DataError as error:
        raise ConfigError(f"decode: {error.message}", hint=error.hint, value=spec) from error
    if not callable(found):
        raise ConfigError(
            f"decode: {spec!r} is a {type(found).__name__}; expected a function.", hint="Correct decode.", value=spec
        )
    function: Callable[..., Any] = found
    return function


def call_decoder(decoder: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """Call a user's decoder for one sample.

    Raises:
        DataError: It failed; names the sample.
    """
    try:
        return decoder(*arguments)
    except Exception as error:  # whatever the user's function raises
        raise DataError(
            f"decode failed for sample {name!r}: {type(error).__name__}: {error}.",
            hint="It gets the outputs of one sample by name, each with a batch axis of 1.",
            sample=name,
        ) from error


def one_sample(outputs: Mapping[str, Array], index: int, size: int) -> dict[str, Array]:
    """Outputs of one sample of a batch, each with a batch axis of 1 where the batch has that axis.

    Raises:
        DataError: No output has it, so nothing tells the samples of a batch apart.
    """
    if size > 1 and not any(array.ndim and array.shape[0] == size for array in outputs.values()):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        raise DataError(
            f"No output has one row for each of the {size} samples of a batch: {shapes}.", hint="Use batch_size=1."
        )
    return {
        name: array[index : index + 1] if array.ndim and array.shape[0] == size else array
        for name, array in outputs.items()
    }
