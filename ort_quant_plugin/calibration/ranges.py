"""What every method makes of every tensor: ranges, scales and what they would cost, from saved sketches alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.calibration.choose import choose_params, subject_of
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS, Grid
from ort_quant_plugin.calibration.quality import clipped_share, expected_sqnr
from ort_quant_plugin.calibration.sketch_file import SketchFile
from ort_quant_plugin.config.model import ActivationConfig
from ort_quant_plugin.errors import ConfigError, OrtQuantError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from ort_quant_plugin.calibration.methods import CalibrationMethod
    from ort_quant_plugin.calibration.sketch import Sketch

__all__ = ["MethodRange", "RangesReport", "TensorRanges", "ranges"]


@dataclass(frozen=True)
class MethodRange:
    """What one method chooses for one tensor.

    Attributes:
        method: Its name.
        low: Smallest value with a code of its own; NaN where there is no range.
        high: Largest value with a code of its own.
        scale: Scale; NaN where there is no range.
        offset: Offset in the signed range.
        clipped: Share of the values outside of ``[low, high]``, in [0, 1].
        sqnr_db: Expected signal-to-quantization-noise ratio; +∞ without noise.
        reason: Why there is no range.
    """

    method: str
    low: float
    high: float
    scale: float
    offset: int
    clipped: float
    sqnr_db: float
    reason: str | None = None


@dataclass(frozen=True)
class TensorRanges:
    """One tensor.

    Attributes:
        tensor: Its name.
        layers: Record entries it serves.
        count: Finite values seen.
        minimum: Smallest of them.
        maximum: Largest of them.
        zeros: Share of exact zeros.
        ranges: One entry a method.
    """

    tensor: str
    layers: tuple[str, ...]
    count: int
    minimum: float
    maximum: float
    zeros: float
    ranges: tuple[MethodRange, ...]


@dataclass(frozen=True)
class RangesReport:
    """All tensors of a sketch file.

    Attributes:
        tensors: In the order of the model.
        complete: Whether the file holds all of its data.
        batches: Batches whose values are in it.
    """

    tensors: tuple[TensorRanges, ...]
    complete: bool
    batches: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; numbers that JSON cannot hold become ``null``."""
        return {
            "complete": self.complete,
            "batches": self.batches,
            "tensors": [
                {**vars(tensor), "layers": list(tensor.layers), "ranges": [_plain(r) for r in tensor.ranges]}
                for tensor in self.tensors
            ],
        }


def _plain(found: MethodRange) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in vars(found).items()
    }


def ranges(
    sketches: str | os.PathLike[str],
    *,
    methods: Sequence[str] | None = None,
    tensors: Sequence[str] = (),
    grid: Grid | None = None,
) -> RangesReport:
    """Let methods, with their default parameters, choose a range for every tensor of a sketch file.

    Args:
        sketches: File that ``calibrate(…, sketches=…)`` wrote.
        methods: Names; default: all registered methods.
        tensors: Names of tensors or of the layers they serve; default: all.
        grid: The integers; default: 8 bits, asymmetric.

    Raises:
        CalibrationError: The file is missing, damaged or of another version.
        ConfigError: A method or tensor is unknown.
    """
    from ort_quant_plugin.plugins import build_plugin_manager

    file = SketchFile.read(Path(sketches))
    registered = build_plugin_manager().methods()
    chosen = {name: _find(registered, name) for name in methods or registered}
    grid = grid or Grid()
    wanted = _select(file, tensors)
    done = sum(stop - start for start, stop in file.done)
    found = tuple(_tensor(name, file, chosen, grid) for name in wanted)
    return RangesReport(found, file.complete, done)


def _find(methods: Mapping[str, CalibrationMethod], name: str) -> CalibrationMethod:
    if name in methods:
        return methods[name]
    raise ConfigError(
        f"There is no calibration method {name!r}.", hint=f"Use one of: {', '.join(methods)}.", method=name
    )


def _select(file: SketchFile, names: Sequence[str]) -> list[str]:
    if not names:
        return list(file.sketches)
    found = []
    for name in names:
        matching = [tensor for tensor in file.sketches if name == tensor or name in file.layers.get(tensor, ())]
        if not matching:
            raise ConfigError(
                f"The sketches hold no tensor or layer {name!r}.",
                hint="Run 'ort-quant ranges' without --tensor to see the names.",
                tensor=name,
            )
        found += matching
    return list(dict.fromkeys(found))


def _tensor(name: str, file: SketchFile, methods: Mapping[str, CalibrationMethod], grid: Grid) -> TensorRanges:
    sketch = file.sketches[name]
    layers = file.layers.get(name, ())
    return TensorRanges(
        name,
        layers,
        sketch.count,
        sketch.minimum,
        sketch.maximum,
        sketch.zeros / sketch.count if sketch.count else 0.0,
        tuple(_range(method, sketch, grid, subject_of(name, layers)) for method in methods.values()),
    )


def _range(method: CalibrationMethod, sketch: Sketch, grid: Grid, subject: str) -> MethodRange:
    known = {parameter.name for parameter in method.parameters}
    fine_print = {p.name: getattr(grid, p.name) for p in GRID_PARAMETERS if p.name in known}
    parameters = {p.name: p.default for p in method.parameters} | fine_print
    activation = ActivationConfig(method.name, grid.num_bits, not grid.symmetric, parameters)
    try:
        params = choose_params(method, sketch, activation, subject=subject)
    except OrtQuantError as error:
        return MethodRange(method.name, math.nan, math.nan, math.nan, 0, math.nan, math.nan, error.message)
    low, high = params.range
    return MethodRange(
        method.name,
        low,
        high,
        float(params.scale),
        params.offset,
        clipped_share(sketch, params),
        expected_sqnr(sketch, params),
    )
