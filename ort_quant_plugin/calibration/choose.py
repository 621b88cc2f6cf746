"""From sketches to a record: every method, every tensor, no inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.calibration.methods.base import grid_of
from ort_quant_plugin.errors import CalibrationError, NumericsError, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ort_quant_plugin.calibration.methods.base import CalibrationMethod
    from ort_quant_plugin.calibration.observed import CalibrationNode, Use
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.config.model import ActivationConfig
    from ort_quant_plugin.qparams import QuantParams
    from ort_quant_plugin.record import Record

__all__ = ["choose_params", "fill_record", "refuse_non_finite", "subject_of"]


def subject_of(tensor: str, keys: Sequence[str]) -> str:
    """How errors call a tensor: ``layer 'conv1' (tensor 'x')``."""
    if not keys:
        return f"tensor {tensor!r}"
    return f"{'layer' if len(keys) == 1 else 'layers'} {', '.join(map(repr, keys))} (tensor {tensor!r})"


def refuse_non_finite(sketch: Sketch, subject: str, where: str = "the data") -> None:
    """Refuse NaN and infinity.

    Raises:
        CalibrationError: Names the tensor and how many there are.
    """
    if not sketch.non_finite:
        return
    infinite = sketch.positive_infinity + sketch.negative_infinity
    raise CalibrationError(
        f"The calibration data of {subject} has inf/nan value: {sketch.nan} NaN and {infinite} infinite of "
        f"{sketch.count + sketch.non_finite} values in {where}, expected finite ones.",
        hint="Check the input data and its preprocessing, or add the layer to skip_layers.",
        tensor=sketch.key,
        nan=sketch.nan,
        infinite=infinite,
    )


def choose_params(
    method: CalibrationMethod, sketch: Sketch, activation: ActivationConfig, *, subject: str
) -> QuantParams:
    """Let a method choose, after the checks all methods share.

    Args:
        method: The method.
        sketch: The tensor's data.
        activation: Its configuration.
        subject: What is calibrated, for errors.

    Raises:
        CalibrationError: No value, NaN or infinity was seen, or the method finds no range; names the subject.
        NumericsError: The scale is out of range.
    """
    refuse_non_finite(sketch, subject)
    if sketch.empty:
        raise CalibrationError(
            f"The calibration data of {subject} is empty, expected at least one value.",
            hint="Calibrate with inputs that reach this layer.",
            tensor=sketch.key,
        )
    grid, parameters = grid_of(activation)
    try:
        return method.choose(sketch, grid, **parameters)
    except (CalibrationError, NumericsError) as error:
        raise type(error)(
            f"{subject[0].upper()}{subject[1:]} cannot be calibrated with {method.name}: {error.message}",
            hint=error.hint,
            **{**error.details, "tensor": sketch.key},
        ) from error


def fill_record(
    record: Record,
    nodes: Iterable[CalibrationNode],
    sketches: Mapping[str, Sketch],
    methods: Mapping[str, CalibrationMethod],
) -> None:
    """Write the range of every observed tensor into its record entries, in place.

    Args:
        record: From quantize_model, with the weights' factors.
        nodes: What is observed for which entries, and how its range is chosen.
        sketches: By tensor.
        methods: By name.

    Raises:
        CalibrationError: A tensor has no sketch, or its data has no range.
        RecordError: An entry is missing.
        NumericsError: A scale is out of range.
    """
    for node in nodes:
        tensor = node.tensor.name or ""
        if tensor not in sketches:
            raise CalibrationError(
                f"The sketches hold nothing of tensor {tensor!r}.",
                hint="Use the sketches of this calibration model.",
                tensor=tensor,
            )
        for use in node.uses:
            params = choose_params(
                methods[use.activation.algo], sketches[tensor], use.activation, subject=subject_of(tensor, use.keys)
            )
            _fill(record, node, use, params)


def _fill(record: Record, node: CalibrationNode, use: Use, params: QuantParams) -> None:
    half = node.tensor.dtype is not None and node.tensor.dtype.name == "FLOAT16"
    for key in use.keys:
        if key not in record:
            raise RecordError(
                f"The record has no entry {key!r}, which the calibration model fills.",
                hint="Make model and record again, together, with quantize_model (ort-quant prepare).",
                layer=key,
            )
        entry = record[key]
        entry.scale_d, entry.offset_d = float(params.scale), params.offset
        entry.act_type = f"INT{params.num_bits}"
        entry.op_data_type = "FLOAT16" if half else "FLOAT32"
        if node.precision_mode != "DEFAULT":
            entry.extras["fakequant_precision_mode"] = node.precision_mode
