"""Scales, offsets, rounding and packing, against values worked out by hand or read from float32's definition."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.errors import NumericsError
from ort_quant_plugin.qparams import (
    FLT_EPSILON,
    asymmetric_params,
    dequantize,
    integer_range,
    pack_deq_scale,
    quantize,
    quantize_bias,
    round_half_away,
    sanitize_scale,
    symmetric_scale,
    unpack_deq_scale,
)


@pytest.mark.parametrize(("bits", "low", "high"), [(4, -8, 7), (6, -32, 31), (8, -128, 127), (16, -32768, 32767)])
def test_integer_range(bits, low, high):
    assert integer_range(bits) == (low, high)


def test_halves_round_away_from_zero():
    assert round_half_away([0.5, 1.5, 2.5, -0.5, -1.5, 0.4, -0.4]).tolist() == [1, 2, 3, -1, -2, 0, 0]


def test_the_largest_float_below_a_half_rounds_to_zero():
    # trunc(x + 0.5) would give 1: the sum rounds up to 1.0 in float32.
    assert round_half_away(np.float32(0.49999997)) == 0
    assert round_half_away(np.float32(-0.49999997)) == 0


def test_values_beyond_the_mantissa_stay():
    assert round_half_away(np.float32(16777215)) == 16777215


def test_asymmetric_range_is_widened_to_zero():
    params = asymmetric_params(1.0, 2.55)
    assert params.scale == np.float32(2.55) / np.float32(255)
    assert params.offset == -128
    params = asymmetric_params(-2.55, -1.0)
    assert params.offset == 127


def test_asymmetric_range_holds_zero_exactly():
    params = asymmetric_params(-1.0, 3.0)
    assert dequantize(quantize(0.0, params.scale, params.offset), params.scale, params.offset) == 0


def test_zero_range_becomes_scale_one():
    params = asymmetric_params(0.0, 0.0)
    assert (params.scale, params.offset) == (1, -128)


def test_symmetric_scale_uses_the_code_more_on_the_negative_side():
    assert symmetric_scale(-1.0, 2.54) == np.float32(2.54) / np.float32(127)
    assert symmetric_scale(-2.56, 1.0) == np.float32(2.56) / np.float32(128)
    assert symmetric_scale(-2.56, 2.56) == np.float32(2.56) / np.float32(128)


def test_sanitize_scale():
    assert sanitize_scale([FLT_EPSILON / 2, FLT_EPSILON, 0.5], "t").tolist() == [1, FLT_EPSILON, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 8388609.0])
def test_illegal_scales_name_the_subject(bad):
    with pytest.raises(NumericsError, match="scale of layer 'conv1'") as caught:
        sanitize_scale([1.0, bad], "layer 'conv1'")
    assert "skip_layers" in caught.value.hint


def test_the_largest_legal_scale_passes():
    assert sanitize_scale(np.float32(1) / FLT_EPSILON, "t") == 8388608


def test_quantize_saturates():
    assert quantize([-1e9, 0.26, 1e9], 0.5).tolist() == [-128, 1, 127]
    assert quantize([-1e9, 1e9], 0.5, num_bits=6).tolist() == [-32, 31]


def test_bias_rounds_half_to_even():
    assert quantize_bias([0.5, 1.5, -2.5], [1.0], "l").tolist() == [0, 2, -2]


def test_bias_beyond_int32_names_layer_and_channel():
    with pytest.raises(NumericsError, match=r"Do bias quantize failed.*'fc'.*channel 1") as caught:
        quantize_bias([1.0, 3e9], [1.0], "fc")
    assert "skip_layers" in caught.value.hint
    assert caught.value.details["layer"] == "fc"


def test_bias_at_the_ends_of_int32():
    assert quantize_bias([-(2.0**31)], [1.0], "l").tolist() == [-(2**31)]
    with pytest.raises(NumericsError):
        quantize_bias([2.0**31], [1.0], "l")


def test_packed_scale_has_the_float_bits_low_and_the_shift_above():
    # 1.5 is 0x3FC00000 in IEEE-754.
    assert pack_deq_scale(1.5).tolist() == [0x3FC00000]
    assert pack_deq_scale([1.5, 1.5], [0, 3]).tolist() == [0x3FC00000, (3 << 32) | 0x3FC00000]


def test_unpack_is_the_inverse():
    scale, shift = unpack_deq_scale(pack_deq_scale([0.1, 2.0], [1, 16]))
    assert scale.tolist() == [np.float32(0.1), 2.0]
    assert shift.tolist() == [1, 16]
