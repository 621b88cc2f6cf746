"""KLD: the clip threshold whose quantized histogram diverges least from the data's (TPU-MLIR 1.30).

The histogram counts the magnitudes of the non-zero values in N bins that are centred on multiples of their width::

    width = max|x| / (N − 1),   bin = floor(|x| / width + 1/2)

With ``L = 2^(b−1)`` levels, the candidates keep the first ``i = L, 2L, …, N`` bins; N is filled up with empty bins to a
multiple of L. For each, with T the sum of all counts and S that of the kept ones:

* ``P`` = the kept counts, everything beyond added to the last of them, over T;
* ``Q`` = per group of ``i/L`` bins the mean of its non-zero counts over S, in these bins; 0 in empty ones;
* ``KL = Σ P·(log10(P + 1e−30) − log10(Q + 1e−30))``.

The smallest KL wins, the first one on a tie: ``threshold = width·i``, at most ``max|x|``. The range is what the data
has of ``[−threshold, threshold]``. With no fewer levels than bins (16 bits) the whole range is the only candidate.

TPU-MLIR's histogram grows with the batches; this one is of all data.

From a sketch the same histogram is filled by its cumulative counts, rounded to whole values because empty bins matter.
On 200 000 values (Gaussian, Laplace, ReLU, ReLU6, bimodal, uniform, squared exponential, with an outlier; 4 and 8 bits)
the threshold is that of the raw values or the candidate next to it, and the squared error at most 1 % larger. Where a
few thousand values leave most bins empty, candidates diverge almost equally and the threshold may be another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import cumulative
from ort_quant_plugin.calibration.methods.base import GRID_PARAMETERS
from ort_quant_plugin.calibration.methods.clipping import beyond_clipping, interval_params
from ort_quant_plugin.config.parameters import Parameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ort_quant_plugin.calibration.methods.base import Grid
    from ort_quant_plugin.calibration.sketch import Sketch
    from ort_quant_plugin.qparams import QuantParams

__all__ = ["KldMethod", "kld_threshold"]

_LOG_OF_NOTHING = -30.0  # log10(0 + 1e−30)


class KldMethod:
    """Clip where the Kullback–Leibler divergence of the quantized histogram is least, as TPU-MLIR does."""

    name = "kld"
    summary = "least Kullback-Leibler divergence of the clipped histogram (TPU-MLIR's default)"
    parameters = (
        Parameter(
            "bins",
            "int",
            2048,
            "in [128, 8192]",
            "Bins of the histogram of magnitudes; a multiple of the levels, 2^(b−1).",
            lambda bins: 128 <= bins <= 8192,
        ),
        *GRID_PARAMETERS,
    )

    def choose(self, sketch: Sketch, grid: Grid, *, bins: int = 2048, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.CalibrationMethod`."""
        if beyond_clipping(grid, sketch.minimum, sketch.maximum):
            return grid.params(sketch.minimum, sketch.maximum)
        width = sketch.absmax / (bins - 1)
        edges = np.append(0.0, (np.arange(bins) + 0.5) * width)
        below = cumulative(sketch, edges, zeros=False) - cumulative(sketch, -edges, zeros=False)
        counts = np.diff(np.rint(below))
        threshold = width * _bins_kept(counts, 1 << (grid.bits - 1))
        return interval_params(grid, -threshold, threshold, sketch.minimum, sketch.maximum)

    def reference(self, values: ArrayLike, grid: Grid, *, bins: int = 2048, **_: Any) -> QuantParams:
        """See :class:`~ort_quant_plugin.calibration.methods.base.ReferenceMethod`."""
        values = np.asarray(values, np.float32)
        minimum, maximum = float(values.min()), float(values.max())
        if beyond_clipping(grid, minimum, maximum):
            return grid.params(minimum, maximum)
        threshold = kld_threshold(values, grid.bits, bins)
        return interval_params(grid, -threshold, threshold, minimum, maximum)


def kld_threshold(values: ArrayLike, bits: int = 8, bins: int = 2048) -> float:
    """The published threshold, which may exceed the largest magnitude by up to one bin (more with few bins).

    Args:
        values: Finite, any shape; read as float32.
        bits: Width of the integers; ``2^(bits−1)`` levels.
        bins: Bins of the histogram.

    Returns:
        The threshold; 0 where all values are 0.
    """
    magnitudes = np.abs(np.asarray(values, np.float32))
    magnitudes = magnitudes[magnitudes != 0].astype(np.float64)
    if not magnitudes.size:
        return 0.0
    width = np.float32(np.float32(magnitudes.max()) / np.float32(bins - 1))
    # Denormal widths may round to less than their share: the largest value would lie beyond the last bin.
    index = np.minimum(np.floor(magnitudes / max(float(width), np.finfo(np.float64).tiny) + 0.5), bins - 1)
    counts = np.bincount(index.astype(np.int64), minlength=bins).astype(np.float64)
    return float(width * np.float32(_bins_kept(counts, 1 << (bits - 1))))


def _bins_kept(counts: NDArray[np.float64], levels: int) -> int:
    """The ``i`` of least divergence, for all candidates at once by sums of prefixes."""
    counts = np.append(counts, np.zeros(-counts.size % levels))
    group_size = np.arange(1, counts.size // levels + 1)
    edges = group_size[:, None] * np.arange(levels + 1)
    mass = np.diff(_prefix_sums(counts)[edges])
    filled = np.diff(_prefix_sums(counts > 0)[edges])
    kept = mass.sum(axis=1)
    beyond = counts.sum() - kept
    last = counts[edges[:, -1] - 1]

    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.log10(mass / np.maximum(filled, 1) / kept[:, None] + 1e-30)
    own = _prefix_sums(_entropy_term(counts))[edges[:, -1]] - _entropy_term(last) + _entropy_term(last + beyond)
    cross = (mass * log_q).sum(axis=1) + beyond * np.where(last > 0, log_q[:, -1], _LOG_OF_NOTHING)
    divergence = own - cross  # times T, plus T·log10 T: the same for every candidate
    return int(np.argmin(np.where(kept > 0, divergence, np.inf)) + 1) * levels


def _prefix_sums(terms: NDArray[Any]) -> NDArray[np.float64]:
    return np.append(0.0, np.cumsum(terms, dtype=np.float64))


def _entropy_term(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts * np.log10(np.maximum(counts, 1))
