"""What methods with one threshold on magnitudes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.calibration.methods.clipping import interval_params

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["clipped_params", "flat"]


def clipped_params(grid: Grid, low: float, high: float, threshold: float) -> QuantParams:
    """Parameters of the data's range ``[low, high]`` cut at ``±threshold``.

    Symmetric, the larger side decides: ``T/127`` where it is the positive one, ``T/128`` where it is the negative one
    or both are cut (8 bits, N4). Asymmetric, data without negative values keeps the lower bound 0.

    Args:
        grid: The integers.
        low: Minimum of the data.
        high: Maximum of the data.
        threshold: T, at least 0. With 0, what models of a distribution give for a constant, nothing is cut.

    Raises:
        NumericsError: The scale is out of range.
    """
    return interval_params(grid, -threshold, threshold, low, high)


def flat(values: ArrayLike) -> NDArray[np.float64]:
    """The values as float32 holds them, (n,), for arithmetic in float64."""
    return np.asarray(values, np.float32).astype(np.float64).ravel()
