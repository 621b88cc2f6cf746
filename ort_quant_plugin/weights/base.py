"""Where the output channels of a weight are, and what a weight quantizer returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ort_quant_plugin.layers import Layer

__all__ = ["QuantizedWeight", "WeightQuantizer", "broadcast_scale", "channel_axis", "channel_major", "channel_minor"]


@dataclass(frozen=True)
class QuantizedWeight:
    """Integers and scales of one weight.

    Attributes:
        integers: int8, the weight's shape; a width below 8 bits uses the smaller range in the same storage.
        scale: float32, (Cout,) per channel or (1,) per tensor.
    """

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]


class WeightQuantizer(Protocol):
    """Maps a float weight to integers and scales; weights are always symmetric."""

    @property
    def name(self) -> str:
        """Name in configuration files (``wts_algo``)."""

    def quantize(
        self, weight: NDArray[np.float32], layer: Layer, *, num_bits: int, channel_wise: bool
    ) -> QuantizedWeight:
        """Quantize ``weight``.

        Parameters an algorithm declares (``.parameters``) arrive as further keyword arguments.

        Raises:
            NumericsError: The weight holds NaN or infinity, or its scale is illegal.
        """


def channel_axis(layer: Layer) -> int:
    """Axis of the output channels in the weight as ONNX stores it.

    Conv (Cout, Cin/g, …): 0. ConvTranspose (Cin, Cout/g, …): 1, where channel ``c`` of group ``k`` is ``k·Cout/g + c``.
    Gemm and MatMul (K, N): 1; Gemm with transB (N, K): 0; MatMul with its constant on the left (M, K): 0.
    """
    if layer.op_type == "Conv" or layer.weight_index == 0:
        return 0
    if layer.op_type == "Gemm":
        trans_b = layer.node.attributes.get("transB")
        return 0 if trans_b is not None and trans_b.as_int() else 1
    return 1


def _groups(layer: Layer) -> int:
    group = layer.node.attributes.get("group")
    return group.as_int() if layer.op_type == "ConvTranspose" and group is not None else 1


def channel_major(weight: NDArray[np.generic], layer: Layer) -> NDArray[np.generic]:
    """The weight as (Cout, …), output channels first; grouped ConvTranspose is regrouped."""
    groups = _groups(layer)
    if groups == 1:
        return np.moveaxis(weight, channel_axis(layer), 0)
    cin, cout_g, *kernel = weight.shape
    grouped = weight.reshape(groups, cin // groups, cout_g, *kernel)
    return np.moveaxis(grouped, 2, 1).reshape(groups * cout_g, cin // groups, *kernel)


def channel_minor(major: NDArray[np.generic], layer: Layer, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Inverse of :func:`channel_major`; ``shape`` is the weight's own shape."""
    groups = _groups(layer)
    if groups == 1:
        return np.ascontiguousarray(np.moveaxis(major, 0, channel_axis(layer)))
    cin, cout_g, *kernel = shape
    grouped = major.reshape(groups, cout_g, cin // groups, *kernel)
    return np.ascontiguousarray(np.moveaxis(grouped, 1, 2).reshape(shape))


def broadcast_scale(scale: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """(C,) or (1,) as (C, 1, …) of ``rank`` dimensions, to multiply a channel-major weight."""
    return scale.reshape(-1, *([1] * (rank - 1)))
