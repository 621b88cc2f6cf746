"""ARQ (``arq_quantize``): symmetric min/max weights, per channel or per tensor, no search (AMCT).

For every channel (or the whole tensor), with ``m`` the extreme of larger magnitude::

    S = m/qmax if m > 0 else m/qmin            (N4)
    W_q = clip(round(W/S), qmin, qmax)         (N2, halves away from zero)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from ort_quant_plugin.errors import NumericsError
from ort_quant_plugin.qparams import quantize, symmetric_scale
from ort_quant_plugin.weights.base import QuantizedWeight, broadcast_scale, channel_major, channel_minor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ort_quant_plugin.layers import Layer

__all__ = ["ArqQuantizer"]


class ArqQuantizer:
    """AMCT's only weight algorithm for ONNX."""

    name = "arq_quantize"

    def quantize(
        self, weight: NDArray[np.float32], layer: Layer, *, num_bits: int, channel_wise: bool
    ) -> QuantizedWeight:
        """Quantize ``weight`` (see the module docstring).

        Raises:
            NumericsError: The weight holds NaN or infinity, or a scale is above 1/FLT_EPSILON.
        """
        bad = int(np.size(weight) - np.count_nonzero(np.isfinite(weight)))
        if bad:
            raise NumericsError(
                f"The weight of layer {layer.name!r} holds {bad} NaN or infinite values; expected finite values.",
                hint="Repair the model, or put the layer into skip_layers.",
                layer=layer.name,
                count=bad,
            )
        major = cast("NDArray[np.float32]", channel_major(np.asarray(weight, np.float32), layer))
        flat = major.reshape(major.shape[0] if channel_wise else 1, -1)
        scale = symmetric_scale(flat.min(axis=1), flat.max(axis=1), num_bits, subject=f"layer {layer.name!r}'s weight")
        integers = quantize(major, broadcast_scale(scale, major.ndim), num_bits=num_bits).astype(np.int8)
        return QuantizedWeight(cast("NDArray[np.int8]", channel_minor(integers, layer, weight.shape)), scale)
