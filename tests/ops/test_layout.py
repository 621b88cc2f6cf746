"""QuantizeLayout and DequantizeLayout through ONNX Runtime equal the numpy oracle."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops import reference, reference_int8

F32 = np.float32
BYTES, FLOATS = {"y": ir.DataType.UINT8}, {"y": ir.DataType.FLOAT}
SPECIAL = np.array([0, -0.0, 0.5, 1.5, 2.5, -0.5, 1e30, -1e30, np.inf, -np.inf, np.nan, 1e-40, 63.7, -64.3], F32)
SHAPES = [(1, 3, 17, 19), (2, 64, 5, 7), (3, 130, 9), (1, 1, 1, 1), (2, 5, 3, 4, 6), (1, 33, 40, 41), (1, 960, 7, 7)]


def values(shape):
    x = np.random.default_rng(len(shape)).normal(0, 3, shape).astype(F32)
    x.ravel()[: SPECIAL.size] = SPECIAL[: x.size]
    return x


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["channels_first", "same"])
@pytest.mark.parametrize("shape", SHAPES)
def test_quantize(run_node, isa, shape, layout, threads):
    x = values(shape)
    for scale, offset in [(20.0, 0), (0.731, -128), (100.5, 127)]:
        rest = {"scale": scale, "offset": offset, "layout": layout}
        (y,) = run_node("QuantizeLayout", [x], types=BYTES, threads=threads, **rest)
        np.testing.assert_array_equal(y, reference_int8.quantize_layout(x, scale, offset, layout))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["channels_first", "same"])
@pytest.mark.parametrize("shape", SHAPES)
def test_dequantize(run_node, isa, shape, layout, threads):
    x = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    for scale, offset in [(0.05, 0), (0.731, -128), (1e38, 127)]:
        rest = {"scale": scale, "offset": offset, "layout": layout}
        (y,) = run_node("DequantizeLayout", [x], types=FLOATS, threads=threads, **rest)
        np.testing.assert_array_equal(y, reference_int8.dequantize_layout(x, scale, offset, layout))


def test_codes_are_those_of_ascend_quant(run_node):
    x = values((1, 4, 9, 9))
    (y,) = run_node("QuantizeLayout", [x], types=BYTES, scale=7.3, offset=11, layout="same")
    codes = reference.ascend_quant(x, F32(7.3), 11, int8_output=True)
    np.testing.assert_array_equal(y.astype(np.int16) - 128, codes)


def test_channels_first_is_the_default(run_node):
    x = values((2, 3, 4, 5))
    (y,) = run_node("QuantizeLayout", [x], types=BYTES, scale=7.3)
    assert y.shape == (2, 4, 5, 3)
    (back,) = run_node("DequantizeLayout", [y], types=FLOATS, scale=1 / 7.3)
    assert back.shape == x.shape


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_any_rank_without_permutation(run_node, shape):
    x = values(shape)
    (y,) = run_node("QuantizeLayout", [x], types=BYTES, scale=3.0, layout="same")
    np.testing.assert_array_equal(y, reference_int8.quantize(x, 3.0))
    (back,) = run_node("DequantizeLayout", [y], types=FLOATS, scale=0.5, layout="same")
    np.testing.assert_array_equal(back, reference_int8.dequantize_layout(y, 0.5, 0, "same"))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
def test_nothing(run_node, shape):
    n, c, h, w = shape
    (y,) = run_node("QuantizeLayout", [np.zeros(shape, F32)], types=BYTES, scale=3.0)
    assert y.shape == (n, h, w, c)
    (back,) = run_node("DequantizeLayout", [y], types=FLOATS, scale=3.0)
    assert back.shape == shape


REFUSED = [
    ((1, 2, 3), {}, "attribute 'scale' is missing, expected a FLOAT"),
    ((1, 2, 3), {"scale": float("inf")}, "attribute 'scale' is inf, expected a finite number > 0"),
    ((1, 2, 3), {"scale": 1.0, "offset": 200}, "attribute 'offset' is 200, expected an integer in [-128, 127]"),
    ((1, 2, 3), {"scale": 1.0, "layout": "NHWC"}, "attribute 'layout' is \"NHWC\", expected channels_first or same"),
    (
        (2, 3),
        {"scale": 1.0},
        "input 'x' has shape [2,3] and attribute 'layout' is \"channels_first\", expected at least",
    ),
]


@pytest.mark.parametrize("op", ["QuantizeLayout", "DequantizeLayout"])
@pytest.mark.parametrize(("shape", "attributes", "message"), REFUSED)
def test_refusals(run_node, op, shape, attributes, message):
    dtype, types = (F32, BYTES) if op == "QuantizeLayout" else (np.uint8, FLOATS)
    with pytest.raises(Exception, match=f"{op} node 'n'") as caught:
        run_node(op, [np.zeros(shape, dtype)], types=types, **attributes)
    assert message in str(caught.value)
