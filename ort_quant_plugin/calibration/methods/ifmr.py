"""IFMR: percentile bounds, then the upper bound of least squared error among scaled candidates (AMCT's default).

With ``k(p) = n − floor(p·n)`` (1 for p = 1), ``high`` the k(p_max)-th largest value and ``low`` the k(p_min)-th
smallest, both widened to 0, and the ratios ``start + i·step`` (60 by default: counted in float32)::

    asymmetric    c = ratio·high,       S = (c − low)/(2^b − 1)         x' = clip(x, low, c)
    symmetric     c = ratio·magnitude,  S = c/(2^(b−1) − 1)             x' = clip(|x|, 0, c)

The least ``Σ (round(x'/S)·S − x)²`` wins, the first one of equals; symmetric, S is ``c/2^(b−1)`` where the magnitude
is the lower bound's. Only width and symmetry of the grid count: AMCT has no strict or unsigned form.

The sketch form takes both bounds from the sketch (float32; within one bin, 1/4096 of the largest magnitude, and exact
where they are extremes) and the loss from bin centres in float64. A step is 16 bins wide at least for 8 bits, so
centres stand for their bins: the loss of the chosen scale on all values is within 1 % of the least one. At 16 bits,
where a bin holds several steps, the rounding error is taken as S²/12 a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import magnitude_counts, nth_largest, nth_smallest, points
from ort_quant_plugin.calibration.methods.base import ObserverSpec, common_attributes
from ort_quant_plugin.config.algorithms import ACTIVATION_ALGORITHMS
from ort_quant_plugin.ops import reference_calibration
from ort_quant_plugin.qparams import QuantParams, round_half_away, sanitize_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from ort_quant_plugin.calibration.methods.base import Grid, Storage
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.config.algorithms import Parameter
    from ort_quant_plugin.config.model import ActivationConfig

    Floats = NDArray[np.float64]

__all__ = ["IfmrMethod"]


class IfmrMethod:
    """Input Feature Map Reconstruction, also computed by ``amct.customop::IFMR``."""

    name = "ifmr"
    summary = "search the clip value with the least squared error around a percentile (AMCT's default)"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """``max_percentile, min_percentile, search_range, search_step``."""
        return tuple(ACTIVATION_ALGORITHMS[self.name].parameters)

    def choose(self, sketch: Sketch, grid: Grid, **parameters: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        parameters = {**ACTIVATION_ALGORITHMS[self.name].defaults(), **parameters}
        highest = reference_calibration._rank(parameters["max_percentile"], sketch.count)
        lowest = reference_calibration._rank(parameters["min_percentile"], sketch.count)
        high = np.float32(max(nth_largest(sketch, highest), 0))
        low = np.float32(min(nth_smallest(sketch, lowest), 0))
        ratios = _ratios(parameters["search_range"], parameters["search_step"])
        half = np.float32(1 << (grid.bits - 1))
        if grid.symmetric:
            counts = magnitude_counts(sketch).astype(np.float64)
            used = np.flatnonzero(counts)
            values, weights = np.asarray((used + 0.5) * sketch.width), counts[used]
            base, levels = (high, half - 1) if high > -low else (-low, half)
            low = np.float32(0)
        else:
            values, weights = points(sketch)
            base, levels = high, half + half - 1
        with np.errstate(over="ignore"):  # infinite scales are refused
            uppers = ratios * base
            scales = sanitize_scale((uppers - low) / np.float32(levels), "its data")
        losses = _losses(values, weights, float(low), uppers, scales, sub_bin=grid.bits > 8)
        scale = scales[int(np.argmin(losses))]
        offset = 0 if grid.symmetric else -int(round_half_away(low / scale)) - int(half)
        return QuantParams(scale, offset, grid.num_bits)

    def reference(self, values: ArrayLike, grid: Grid, **parameters: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        scale, offset = reference_calibration.ifmr(
            values, asymmetric=not grid.symmetric, num_bits=grid.bits, **parameters
        )
        return QuantParams(scale, offset, grid.num_bits)

    def observer(
        self,
        activation: ActivationConfig,
        *,
        batch_num: int,
        object_layers: Sequence[str],
        record_file: str,
        storage: Storage = "sketch",
    ) -> ObserverSpec:
        """See :class:`~ort_quant_plugin.calibration.methods.base.RecordingMethod`."""
        start, end = activation.parameters["search_range"]
        attributes = common_attributes(
            activation, batch_num=batch_num, object_layers=object_layers, record_file=record_file
        )
        attributes |= {
            "start_ratio": float(start),
            "end_ratio": float(end),
            "step": float(activation.parameters["search_step"]),
            "max_percentile": float(activation.parameters["max_percentile"]),
            "min_percentile": float(activation.parameters["min_percentile"]),
            "storage": storage,
        }
        return ObserverSpec("amct.customop", "IFMR", attributes)


def _ratios(search_range: tuple[float, float], step: float) -> NDArray[np.float32]:
    start, end, step32 = (np.float32(value) for value in (*search_range, step))
    return start + np.arange(int((end - start) / step32 + np.float32(1)), dtype=np.float32) * step32


def _losses(
    values: Floats,
    weights: Floats,
    lower: float,
    uppers: NDArray[np.float32],
    scales: NDArray[np.float32],
    *,
    sub_bin: bool,
) -> Floats:
    """(candidates,) ``Σ weights·(x̂ − x)²``; with ``sub_bin`` steps are finer than the distance of the values.

    Products are summed by numpy: the sums of a BLAS depend on its number of threads.
    """
    losses = np.empty(uppers.size)
    clipped, error = np.empty_like(values), np.empty_like(values)
    for i, (upper, scale) in enumerate(zip(uppers.tolist(), scales.tolist(), strict=True)):
        np.clip(values, lower, upper, out=clipped)
        if sub_bin:
            rounding = float(weights[clipped == values].sum()) * scale * scale / 12
            np.subtract(clipped, values, out=error)
        else:
            rounding = 0.0
            # rint does for round: the two differ on halves only, where both errors are equal in magnitude.
            np.multiply(np.rint(np.divide(clipped, scale, out=error), out=error), scale, out=error)
            np.subtract(error, values, out=error)
        losses[i] = np.multiply(np.square(error, out=error), weights, out=error).sum() + rounding
    return losses
