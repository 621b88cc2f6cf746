"""QPool through ONNX Runtime equals the numpy oracle and ONNX Runtime's float pools."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from ort_quant_plugin.ops import reference_int8 as oracle

F32 = np.float32
FLOAT_OUT = {"y_float": ir.DataType.FLOAT}

CASES = {
    "2x2": ((2, 6, 8, 16), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "3x3 pads": ((1, 7, 9, 33), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "asymmetric pads": ((1, 7, 9, 5), {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1]}),
    "ceil": ((1, 8, 9, 70), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil and pads": ((1, 8, 9, 4), {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    "dilations": ((1, 12, 9, 4), {"kernel_shape": [3, 2], "dilations": [2, 3]}),
    "1-D": ((3, 17, 6), {"kernel_shape": [5], "strides": [3], "pads": [1, 2]}),
    "3-D": ((1, 4, 5, 6, 3), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 1], "pads": [0, 1, 0, 1, 1, 1]}),
    "same upper": ((1, 8, 9, 4), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 8, 9, 4), {"kernel_shape": [3, 4], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "valid": ((1, 8, 9, 4), {"kernel_shape": [3, 4], "auto_pad": "VALID"}),
    "all of it": ((2, 7, 7, 130), {"kernel_shape": [7, 7]}),
}
NEW_CEIL = tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 20)


def codes(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_max(run_node, isa, name, threads):
    shape, attributes = CASES[name]
    (y,) = run_node("QPool", [codes(shape)], mode="max", threads=threads, **attributes)
    np.testing.assert_array_equal(y, oracle.q_max_pool(codes(shape), **attributes))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_average(run_node, isa, name, include, threads):
    shape, attributes = CASES[name]
    y, y_float = run_node(
        "QPool",
        [codes(shape), F32([0.0371])],
        ("y", "y_float"),
        mode="average",
        count_include_pad=include,
        x_offset=-9,
        y_scale=25.0,
        y_offset=3,
        float_layout="channels_first",
        threads=threads,
        **attributes,
    )
    want = oracle.q_average_pool(codes(shape), 0.0371, x_offset=-9, count_include_pad=include, **attributes)
    np.testing.assert_array_equal(y_float, np.moveaxis(want, -1, 1))
    np.testing.assert_array_equal(y, oracle.quantize(want, 25.0, 3))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(2, 7, 7, 130), (1, 1, 1, 5), (3, 50, 4), (1, 3, 4, 5, 17)])
def test_global_average(run_node, isa, shape, threads):
    arguments = {"mode": "global_average", "x_offset": 20, "y_scale": 19.0, "threads": threads}
    y, y_float = run_node("QPool", [codes(shape), F32([0.05])], ("y", "y_float"), **arguments)
    want = oracle.q_average_pool(codes(shape), 0.05, x_offset=20)
    np.testing.assert_array_equal(y_float, want)
    np.testing.assert_array_equal(y, oracle.quantize(want, 19.0))


def as_float(x):
    return np.moveaxis(x.astype(F32) - F32(128), -1, 1)


@pytest.mark.parametrize("include", [0, 1, None])
@pytest.mark.parametrize("name", CASES)
def test_oracle_equals_onnx_runtimes_float_pool(run_node, name, include):
    shape, attributes = CASES[name]
    if "ceil_mode" in attributes and not NEW_CEIL:
        pytest.skip("this ONNX Runtime counts windows that begin in the end padding")
    if include is not None and "dilations" in attributes:
        pytest.skip("AveragePool has no dilations in this opset")
    if include is None:
        ours, op, extra = oracle.q_max_pool(codes(shape), **attributes).astype(F32) - 128, "MaxPool", {}
    else:
        ours = oracle.q_average_pool(codes(shape), 1.0, count_include_pad=include, **attributes)
        op, extra = "AveragePool", {"count_include_pad": include}
    (theirs,) = run_node(op, [as_float(codes(shape))], ("y_float",), domain="", types=FLOAT_OUT, **attributes, **extra)
    np.testing.assert_array_equal(np.moveaxis(ours, -1, 1), theirs)


def test_global_oracle_equals_onnx_runtimes_float_pool(run_node):
    x = codes((2, 7, 9, 33))
    (theirs,) = run_node("GlobalAveragePool", [as_float(x)], ("y_float",), domain="", types=FLOAT_OUT)
    np.testing.assert_array_equal(np.moveaxis(oracle.q_average_pool(x, 1.0), -1, 1), theirs)


@pytest.mark.parametrize("epilogue", ["clip 0 -1.0 1.0", "relu 0", "mul 0 c0;add 1 r0"])
def test_epilogues(run_node, isa, epilogue):
    x = codes((2, 6, 6, 19))
    random = np.random.default_rng(1)
    constants, residual = random.normal(1, 1, (1, 19)).astype(F32), random.normal(0, 1, (2, 3, 3, 19)).astype(F32)
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    inputs = [x, F32([0.02]), constants, residual]
    (y,) = run_node("QPool", inputs, mode="average", epilogue=epilogue, y_scale=40.0, y_offset=1, **window)
    want = oracle.run_epilogue(oracle.q_average_pool(x, 0.02, **window), epilogue, constants, residual)
    np.testing.assert_array_equal(y, oracle.quantize(want, 40.0, 1))


def test_extremes(run_node, isa):
    for code, offset in [(0, 127), (255, -128)]:
        x = np.full((1, 30, 31, 65), code, np.uint8)
        (y,) = run_node("QPool", [x, F32([1.0])], ("y_float",), mode="global_average", x_offset=offset)
        np.testing.assert_array_equal(y, oracle.q_average_pool(x, 1.0, x_offset=offset))


@pytest.mark.parametrize("mode", ["max", "average", "global_average"])
def test_no_samples(run_node, mode):
    inputs = [codes((0, 4, 4, 3))] if mode == "max" else [codes((0, 4, 4, 3)), F32([1.0])]
    window = {} if mode == "global_average" else {"kernel_shape": [2, 2]}
    (y,) = run_node("QPool", inputs, mode=mode, y_scale=1.0, **window)
    assert y.shape == ((0, 1, 1, 3) if mode == "global_average" else (0, 3, 3, 3))


REFUSED = [
    ({"mode": "min"}, "attribute 'mode' is \"min\", expected max, average or global_average"),
    ({"mode": "max"}, "attribute 'kernel_shape' is missing, expected one to three sizes"),
    (
        {"mode": "max", "kernel_shape": [1, 1, 1, 1]},
        "attribute 'kernel_shape' is [1,1,1,1], expected one to three sizes",
    ),
    ({"mode": "max", "kernel_shape": [0, 2]}, "attribute 'kernel_shape' is [0,2], expected integers in [1, "),
    ({"mode": "max", "kernel_shape": [2]}, "input 'x' has shape [1,5,6,3], expected 3 dimensions"),
    (
        {"mode": "max", "kernel_shape": [2, 2], "pads": [2, 0, 0, 0]},
        "attribute 'pads' is 2 on one axis, expected less than",
    ),
    (
        {"mode": "max", "kernel_shape": [9, 9]},
        "the kernel covers 9 positions of spatial axis 0, but input 'x' with its",
    ),
    (
        {"mode": "max", "kernel_shape": [2, 2], "ceil_mode": 2},
        "attribute 'ceil_mode' is 2, expected an integer in [0, 1]",
    ),
    ({"mode": "max", "kernel_shape": [2, 2], "outputs": ("y", "y2")}, "expected only 'y', because mode is \"max\""),
    ({"mode": "average", "kernel_shape": [2, 2]}, "input 'deq' is missing, expected float [1]"),
]


@pytest.mark.parametrize(("attributes", "message"), REFUSED)
def test_refusals(run_node, attributes, message):
    with pytest.raises(Exception, match="QPool node 'n'") as caught:
        run_node("QPool", [codes((1, 5, 6, 3))], **{"y_scale": 1.0, **attributes})
    assert message in str(caught.value)
