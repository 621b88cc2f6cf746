"""Weight quantizers: constant weights to integers and scales, no data needed."""

from __future__ import annotations

from ort_quant_plugin.weights.arq import ArqQuantizer
from ort_quant_plugin.weights.base import QuantizedWeight, WeightQuantizer, broadcast_scale, channel_axis

__all__ = [
    "BUILTIN_WEIGHT_QUANTIZERS",
    "ArqQuantizer",
    "QuantizedWeight",
    "WeightQuantizer",
    "broadcast_scale",
    "channel_axis",
]

BUILTIN_WEIGHT_QUANTIZERS: tuple[WeightQuantizer, ...] = (ArqQuantizer(),)
