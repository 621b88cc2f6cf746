"""ARQ: published scales, layouts of the four layer types, refusals."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import NumericsError
from ort_quant_plugin.layers import Layer
from ort_quant_plugin.weights import ArqQuantizer
from ort_quant_plugin.weights.base import channel_major, channel_minor

RNG = np.random.default_rng(0)


def layer(op_type="Conv", weight_index=1, **attributes):
    node = ir.node(op_type, [ir.Value(name="x"), ir.Value(name="w")], attributes)
    return Layer("l", op_type, node, weight=node.inputs[weight_index], weight_index=weight_index)


def arq(weight, of, bits=8, channel_wise=True):
    return ArqQuantizer().quantize(weight, of, num_bits=bits, channel_wise=channel_wise)


def test_published_scales(lcg):
    """Seed 3, 36 values, k = 1, as 4 channels of 9: values AMCT's library gives."""
    weight = lcg(3, 36, 1).reshape(4, 1, 3, 3)
    per_channel = arq(weight, layer())
    expected = np.float32([0.00657107495, 0.0102368435, 0.0078441808, 0.0100286091])
    np.testing.assert_array_equal(per_channel.scale, expected)
    np.testing.assert_array_equal(arq(weight, layer(), channel_wise=False).scale, expected[1:2])


@pytest.mark.parametrize("bits", [4, 6, 7, 8])
def test_the_extreme_of_each_channel_gets_the_last_code(bits):
    weight = RNG.normal(size=(5, 3, 2, 2)).astype(np.float32)
    integers = arq(weight, layer(), bits).integers.reshape(5, -1)
    for channel, values in zip(integers, weight.reshape(5, -1), strict=True):
        end = values[np.argmax(np.abs(values))]
        assert channel[np.argmax(np.abs(values))] == (2 ** (bits - 1) - 1 if end > 0 else -(2 ** (bits - 1)))


def test_a_channel_of_zeros_has_scale_one():
    weight = np.zeros((2, 1, 1, 1), np.float32)
    weight[0] = 1.0
    assert arq(weight, layer()).scale.tolist() == [np.float32(1) / np.float32(127), 1.0]


@pytest.mark.parametrize(
    ("of", "shape", "channels"),
    [
        (layer("Conv"), (6, 2, 3, 3), 6),
        (layer("ConvTranspose"), (4, 3, 2, 2), 3),
        (layer("ConvTranspose", group=2), (4, 3, 2, 2), 6),
        (layer("Gemm"), (5, 7), 7),
        (layer("Gemm", transB=1), (7, 5), 7),
        (layer("MatMul"), (5, 7), 7),
        (layer("MatMul", weight_index=0), (7, 5), 7),
    ],
)
def test_output_channels_come_first_and_go_back(of, shape, channels):
    weight = RNG.normal(size=shape).astype(np.float32)
    major = channel_major(weight, of)
    assert major.shape[0] == channels
    np.testing.assert_array_equal(channel_minor(major, of, shape), weight)


def test_channels_of_a_grouped_conv_transpose_are_ordered_by_group():
    weight = np.arange(4 * 3, dtype=np.float32).reshape(4, 3, 1, 1)
    major = channel_major(weight, layer("ConvTranspose", group=2)).reshape(6, 2)
    # Group 0 owns input channels 0 and 1, group 1 owns 2 and 3.
    assert major.tolist() == [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_refused(bad):
    weight = np.ones((2, 1, 1, 1), np.float32)
    weight[1] = bad
    with pytest.raises(NumericsError, match="layer 'l' holds 1 NaN or infinite"):
        arq(weight, layer())


def test_absurd_weights_are_refused():
    with pytest.raises(NumericsError, match="8388608"):
        arq(np.full((1, 1, 1, 1), 1e12, np.float32), layer())
