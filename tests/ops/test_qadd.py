"""QAdd through ONNX Runtime equals the numpy oracle, and refuses what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.ops import reference_int8 as oracle

F32 = np.float32
SCALES = {"a_scale": 0.0371, "b_scale": 0.0113, "a_offset": -17, "b_offset": 44}
SHAPES = [(), (7,), (1, 1, 1, 1), (2, 5, 6, 19), (1, 56, 57, 24), (3, 4, 160), (1, 2, 3, 4, 5)]


def pair(shape):
    random = np.random.default_rng(3)
    return random.integers(0, 256, shape, np.uint8), random.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_sum(run_node, isa, shape, threads):
    a, b = pair(shape)
    arguments = {**SCALES, "y_scale": 21.0, "y_offset": -5, "threads": threads}
    want = oracle.q_add(a, b, **SCALES)
    (alone,) = run_node("QAdd", [a, b], **arguments)
    np.testing.assert_array_equal(alone, oracle.quantize(want, 21.0, -5))
    y, y_float, y2 = run_node("QAdd", [a, b], ("y", "y_float", "y2"), y2_scale=3.5, y2_offset=2, **arguments)
    np.testing.assert_array_equal(y_float, want)
    np.testing.assert_array_equal(y, alone)
    np.testing.assert_array_equal(y2, oracle.quantize(want, 3.5, 2))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("epilogue", ["relu 0", "clip 0 -1.0 2.5", "mul 0 c0;add 1 r0;relu 2", "leaky_relu 0 0.25"])
def test_epilogues(run_node, isa, epilogue, threads):
    a, b = pair((2, 5, 6, 19))
    random = np.random.default_rng(1)
    constants, residual = random.normal(1, 1, (1, 19)).astype(F32), random.normal(0, 1, a.shape).astype(F32)
    y, y_float = run_node(
        "QAdd",
        [a, b, constants, residual],
        ("y", "y_float"),
        epilogue=epilogue,
        y_scale=20.0,
        float_layout="channels_first",
        threads=threads,
        **SCALES,
    )
    want = oracle.run_epilogue(oracle.q_add(a, b, **SCALES), epilogue, constants, residual)
    np.testing.assert_array_equal(y, oracle.quantize(want, 20.0))
    np.testing.assert_array_equal(y_float, np.moveaxis(want, -1, 1))


def test_extremes(run_node, isa):
    a, b = np.zeros((2, 70), np.uint8), np.full((2, 70), 255, np.uint8)
    for scales in ({"a_scale": 3e38, "b_scale": 3e38}, {"a_scale": 1e-40, "b_scale": 1e-38}):
        arguments = {**scales, "a_offset": 127, "b_offset": -128}
        y, y_float = run_node("QAdd", [a, b], ("y", "y_float"), y_scale=1.0, **arguments)
        want = oracle.q_add(a, b, **arguments)
        np.testing.assert_array_equal(y_float, want)
        np.testing.assert_array_equal(y, oracle.quantize(want, 1.0))


def test_nothing(run_node):
    (y,) = run_node("QAdd", [*pair((0, 3, 4))], y_scale=1.0, **SCALES)
    assert y.shape == (0, 3, 4)


A, B = pair((1, 2, 3))
REFUSED = [
    ([A, B[:, :1]], {}, "inputs 'a' and 'b' have the shapes [1,2,3] and [1,1,3], expected the same"),
    ([A, B], {"a_scale": 0.0}, "attribute 'a_scale' is 0, expected a finite number > 0 (scale_d)"),
    ([A, B], {"b_offset": 128}, "attribute 'b_offset' is 128, expected an integer in [-128, 127]"),
    (
        [A, B, np.ones((1, 2), F32)],
        {"epilogue": "mul 0 c0"},
        "input 'channel_constants' has 2 channels, expected as many",
    ),
    ([A, B, np.ones((0, 3), F32)], {}, "input 'channel_constants' has shape [0,3], expected [rows, channels]"),
    ([A, B, None, A[:, :1].astype(F32)], {"epilogue": "add 0 r0"}, "input 'r0' has shape [1,1,3], expected [1,2,3]"),
]


@pytest.mark.parametrize(("inputs", "attributes", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(run_node, inputs, attributes, message):
    with pytest.raises(Exception, match="QAdd node 'n'") as caught:
        run_node("QAdd", inputs, **{"y_scale": 1.0, **SCALES, **attributes})
    assert message in str(caught.value)
