"""Which output a metric reads, and its rows: one per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.config.parameters import Parameter
from ort_quant_plugin.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ort_quant_plugin.gates.metrics.base import Array, Batch

__all__ = ["OUTPUT", "check_reference", "class_scores", "is_class_scores", "output_name", "per_sample"]

OUTPUT = Parameter("output", "str", None, "", "Name of the output to judge; needed where several would do.")


def per_sample(output: Array, size: int, name: str) -> Array:
    """An output with the samples along its first axis.

    An output of one sample may come without that axis.

    Raises:
        DataError: Its first axis is not that of the samples.
    """
    if output.ndim and output.shape[0] == size:
        return output
    if size == 1:
        return output[np.newaxis]
    raise DataError(
        f"Output {name!r} has shape {list(output.shape)} for {size} samples; expected one row per sample.",
        hint="Use batch_size=1, or name another output with output=….",
        output=name,
        value=output.shape,
        expected=size,
    )


def check_reference(batch: Batch, name: str) -> None:
    """See that the float model, where there is one, has an output of numbers: a broken one is no measure.

    Raises:
        DataError: The output is NaN for a sample.
    """
    if batch.reference is None:
        return
    rows = per_sample(batch.reference[name], batch.size, name)
    broken = np.flatnonzero(np.isnan(rows).reshape(batch.size, -1).any(axis=1))
    if broken.size:
        sample = batch.names[int(broken[0])]
        raise DataError(
            f"Output {name!r} of the float model is NaN for sample {sample!r}, so there is nothing to compare with.",
            hint="Mend the float model, or leave such samples out.",
            output=name,
            sample=sample,
        )


def output_name(outputs: Mapping[str, Array], batch: Batch, fits: Callable[[Array], bool], what: str) -> str:
    """The output a metric reads: the one its option names, else the only one that fits.

    Args:
        outputs: A model's outputs.
        batch: Has the option ``output``.
        fits: Whether an output can be judged.
        what: What such an output is, for messages: ``"class scores, [samples, classes]"``.

    Raises:
        ConfigError: No output of that name, or several that fit.
        DataError: None fits.
    """
    wanted = batch.options.get("output")
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
    if wanted is not None:
        if wanted not in outputs:
            raise ConfigError(
                f"The model has no output {wanted!r}; its numeric outputs are {shapes}.",
                hint="Correct output=….",
                value=wanted,
                expected=list(outputs),
            )
        if not fits(per_sample(outputs[wanted], batch.size, wanted)):
            raise DataError(
                f"Output {wanted!r} has shape {list(outputs[wanted].shape)}; expected {what}.",
                hint="Name another output with output=…, or choose another metric.",
                output=wanted,
                value=outputs[wanted].shape,
            )
        return str(wanted)
    found = [name for name, array in outputs.items() if _rows_fit(array, batch.size, fits)]
    if not found:
        raise DataError(
            f"No output holds {what}: the outputs are {shapes}.", hint="Choose another metric.", value=shapes
        )
    if len(found) > 1:
        raise ConfigError(
            f"The outputs {', '.join(found)} all hold {what}.",
            hint=f"Say which one to judge, such as output={found[0]!r}.",
            value=found,
        )
    return found[0]


def _rows_fit(array: Array, size: int, fits: Callable[[Array], bool]) -> bool:
    if size == 1 and (not array.ndim or array.shape[0] != 1):
        return fits(array[np.newaxis])
    return array.ndim > 0 and array.shape[0] == size and fits(array)


def is_class_scores(rows: Array) -> bool:
    """Whether an array holds one value a class for each sample."""
    return rows.ndim == 2 and rows.shape[1] > 1 and rows.dtype.kind == "f"


def class_scores(outputs: Mapping[str, Array], batch: Batch) -> tuple[str, Array]:
    """The output that holds class scores, and its rows.

    Shapes: (samples, classes), at least two classes.

    Raises:
        ConfigError, DataError: As :func:`output_name`.
    """
    name = output_name(outputs, batch, is_class_scores, "class scores, [samples, classes]")
    return name, per_sample(outputs[name], batch.size, name)
