"""One run's inputs ("feed") against the model's inputs: names, rank, dtype, shape, finite values.

Every calibration source goes through :func:`fit_feed`, so a misfit is found before ONNX Runtime
sees the data, and the message names the file or sample that brought it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ort_quant_plugin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ort_quant_plugin.model import TensorSpec

__all__ = ["Array", "Feed", "describe_shape", "fit_array", "fit_feed", "name_feed", "single_input", "static_batch"]

Array = NDArray[np.generic]
Feed = dict[str, Array]


def describe_shape(shape: Sequence[int | str | None]) -> str:
    """Write a shape the way error messages show it: ``[N, 3, 224, 224]``, ``?`` for a dimension without a name."""
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def fit_array(array: Array, spec: TensorSpec, source: str) -> Array:
    """Check one array against one model input; return it in the input's dtype.

    float64 becomes float32 for a float32 input (numpy's default dtype, no meaning lost); every other
    dtype has to match exactly. Dynamic dimensions accept any size, static ones only their own.

    Args:
        array: What one run would feed, batch axis included.
        spec: The model input.
        source: File, sample or batch named in errors.

    Raises:
        DataError: rank, dtype or a static dimension does not fit; a value is NaN or infinite; the array is empty.
    """
    shape = spec.shape if spec.shape is not None else (None,) * array.ndim  # even the rank may be unknown
    if array.ndim != len(shape):
        raise DataError(
            f"{source} has rank {array.ndim} {describe_shape(array.shape)}, but input '{spec.name}' has rank "
            f"{len(shape)} {describe_shape(shape)}.",
            hint="Give the data one axis per dimension of the input, the batch axis included.",
            source=source,
            input=spec.name,
            expected=shape,
            value=array.shape,
        )
    array = _fit_dtype(array, spec, source)
    for axis, (size, wanted) in enumerate(zip(array.shape, shape, strict=True)):
        if isinstance(wanted, int) and size != wanted:
            raise DataError(
                f"{source} has shape {describe_shape(array.shape)}, but input '{spec.name}' has shape "
                f"{describe_shape(shape)}: dimension {axis} is {size}, expected {wanted}.",
                hint=_shape_hint(array.shape, shape),
                source=source,
                input=spec.name,
                expected=shape,
                value=array.shape,
            )
    if array.size == 0:
        raise DataError(
            f"{source} holds no values for input '{spec.name}': its shape is {describe_shape(array.shape)}.",
            hint="Remove the empty sample.",
            source=source,
            input=spec.name,
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise DataError(
            f"{source} holds {bad} NaN or infinite values for input '{spec.name}'; expected finite values.",
            hint="Remove the sample, or correct its preprocessing.",
            source=source,
            input=spec.name,
            value=bad,
        )
    return array


def _fit_dtype(array: Array, spec: TensorSpec, source: str) -> Array:
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return array if array.dtype.isnative else array.astype(wanted)
    if array.dtype.newbyteorder("=") == wanted:
        return array.astype(wanted)
    if array.dtype == np.float64 and wanted == np.float32:
        with np.errstate(over="ignore"):  # an overflow becomes inf, which the finite check below names
            return array.astype(np.float32)
    raise DataError(
        f"{source} has dtype {array.dtype}, but input '{spec.name}' has dtype {wanted}.",
        hint=(
            f"Integers are not cast silently: scale the data as the model was trained, then .astype(np.{wanted})."
            if np.issubdtype(array.dtype, np.integer) and np.issubdtype(wanted, np.floating)
            else f"Convert the data to {wanted} before calibrating."
        ),
        source=source,
        input=spec.name,
        expected=str(wanted),
        value=str(array.dtype),
    )


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> str:
    if len(shape) == 4 and isinstance(wanted[1], int) and isinstance(wanted[3], int):
        if (shape[3], shape[1]) == (wanted[1], wanted[2]):
            return "The data looks like NHWC: transpose it, or use --layout NCHW for images."
        if (shape[1], shape[2]) == (wanted[3], wanted[1]):
            return "The data looks like NCHW: transpose it, or use --layout NHWC for images."
    return "Bring the data to the input's shape; for images use --resize and --crop."


def name_feed(item: Any, specs: Sequence[TensorSpec], source: str) -> Feed:
    """Turn what a user yields for one run (dict, list or tuple in input order, one array) into a named feed.

    Raises:
        DataError: the number of arrays is not the number of inputs, or an element is not numeric.
    """
    if isinstance(item, Mapping):
        return {str(name): _as_array(value, f"{source}, input '{name}'") for name, value in item.items()}
    positional = list(item) if isinstance(item, (list, tuple)) else [item]
    if isinstance(item, list) and len(specs) == 1 and not any(isinstance(part, np.ndarray) for part in item):
        positional = [item]  # one input given as a plain nested list of numbers
    if len(positional) != len(specs):
        raise DataError(
            f"{source} gives {_count(len(positional), 'array')}, but the model has "
            f"{_count(len(specs), 'input')}: {_names(specs)}.",
            hint="Yield a dict {input name: array}, or a list with one array per input in this order.",
            source=source,
            expected=[spec.name for spec in specs],
            value=len(positional),
        )
    return {
        spec.name: _as_array(value, f"{source}, input '{spec.name}'")
        for spec, value in zip(specs, positional, strict=True)
    }


def _as_array(value: Any, source: str) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source} is not an array: {error}.", hint="Yield numpy arrays.", source=source) from error
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{source} is a {type(value).__name__} of dtype {array.dtype}; expected a numeric array.",
            hint="Yield numpy arrays.",
            source=source,
            value=str(array.dtype),
        )
    return array


def fit_feed(feed: Mapping[str, Array], specs: Sequence[TensorSpec], source: str) -> Feed:
    """Check a whole feed: exactly the model's inputs, each fitting (see :func:`fit_array`).

    Raises:
        DataError: an input is missing or unknown, or an array does not fit.
    """
    wanted = {spec.name: spec for spec in specs}
    unknown = sorted(set(feed) - set(wanted))
    missing = [name for name in wanted if name not in feed]
    if unknown or missing:
        parts = []
        if missing:
            parts.append("lacks " + ", ".join(f"'{name}'" for name in missing))
        if unknown:
            parts.append("has unknown " + ", ".join(f"'{name}'" for name in unknown))
        raise DataError(
            f"{source} {' and '.join(parts)}; the model's inputs are {_names(specs)}.",
            hint="Name each array after its model input.",
            source=source,
            missing=missing,
            unknown=unknown,
            expected=list(wanted),
        )
    return {name: fit_array(feed[name], spec, source) for name, spec in wanted.items()}


def single_input(specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """Return the only input of the model.

    Raises:
        DataError: the model has several inputs, so ``what`` cannot say which one it feeds.
    """
    if len(specs) != 1:
        raise DataError(
            f"{what} can feed one input, but the model has {_count(len(specs), 'input')}: {_names(specs)}.",
            hint="Use a .npz with one array per input, folders of .bin files, or 'module:callable' yielding dicts.",
            source=what,
            expected=[spec.name for spec in specs],
        )
    return specs[0]


def static_batch(specs: Sequence[TensorSpec], batch_size: int) -> tuple[int, bool]:
    """Return the batch size to use and whether it may vary.

    A static batch dimension of the model decides, and then no batch may have another size; else the size asked for.

    Raises:
        DataError: ``batch_size`` is below 1, or contradicts the model's static batch dimension.
    """
    if batch_size < 1:
        raise DataError(
            f"The batch size is {batch_size}; expected at least 1.", hint="Use --batch-size 1.", value=batch_size
        )
    for spec in specs:
        first = spec.shape[0] if spec.shape else None
        if isinstance(first, int):
            if batch_size not in {1, first}:
                raise DataError(
                    f"The batch size is {batch_size}, but input '{spec.name}' has the static batch dimension {first}.",
                    hint=f"Use --batch-size {first}, or leave it out.",
                    input=spec.name,
                    value=batch_size,
                    expected=first,
                )
            return first, False
    return batch_size, True


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
