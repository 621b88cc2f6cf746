"""QConv and QConvTranspose through ONNX Runtime equal the numpy oracle, and refuse what they cannot do."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops import reference_int8 as oracle
from ort_quant_plugin.ops.library import open_session

F32 = np.float32
FLOAT_OUT = {"y_float": ir.DataType.FLOAT}


def layer(seed, x_shape, w_shape, channels_out):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, x_shape, np.uint8)
    w = random.integers(-128, 128, w_shape, np.int8)
    deq = random.uniform(1e-4, 3e-4, channels_out).astype(F32)
    bias = random.integers(-9000, 9000, channels_out).astype(np.int32)
    return x, w, deq, bias


CONVS = {
    "1x1": ((2, 5, 7, 16), (24, 16, 1, 1), {}),
    "3x3 pads": ((1, 9, 8, 12), (10, 12, 3, 3), {"pads": [1, 1, 1, 1]}),
    "asymmetric pads": ((1, 6, 9, 8), (5, 8, 3, 2), {"pads": [2, 0, 1, 3]}),
    "strides": ((2, 11, 10, 4), (7, 4, 3, 3), {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "dilations": ((1, 12, 13, 4), (6, 4, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "stem": ((1, 17, 15, 3), (32, 3, 3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "depthwise": ((2, 9, 9, 20), (20, 1, 3, 3), {"group": 20, "pads": [1, 1, 1, 1]}),
    "depthwise 5x5 stride 2": ((1, 12, 9, 70), (70, 1, 5, 5), {"group": 70, "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "depthwise multiplier": ((1, 6, 7, 6), (12, 1, 3, 3), {"group": 6}),
    "groups": ((1, 7, 6, 16), (24, 4, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "odd groups": ((1, 5, 6, 9), (6, 3, 2, 2), {"group": 3}),
    "1-D": ((3, 20, 5), (7, 5, 4), {"strides": [3], "pads": [2, 1], "dilations": [2]}),
    "3-D": ((1, 4, 5, 6, 3), (8, 3, 2, 3, 2), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1]}),
    "same upper": ((1, 8, 9, 4), (4, 4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 8, 9, 4), (4, 4, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "valid": ((1, 8, 9, 4), (4, 4, 3, 3), {"auto_pad": "VALID", "kernel_shape": [3, 3]}),
    "pads beyond the kernel": ((1, 4, 4, 4), (4, 4, 1, 1), {"pads": [2, 3, 1, 0]}),
    "many channels": ((1, 3, 3, 260), (130, 260, 3, 3), {"pads": [1, 1, 1, 1]}),
}

TRANSPOSED = {
    "stride 2": ((1, 5, 6, 8), (8, 6, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "output padding": ((2, 4, 3, 5), (5, 7, 3, 3), {"strides": [2, 3], "output_padding": [1, 2]}),
    "output shape": ((1, 4, 5, 4), (4, 4, 4, 3), {"strides": [2, 2], "output_shape": [7, 9]}),
    "same upper": ((1, 4, 5, 4), (4, 4, 4, 3), {"strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 4, 5, 4), (4, 4, 4, 3), {"strides": [2, 1], "auto_pad": "SAME_LOWER"}),
    "gaps": ((1, 4, 4, 4), (4, 3, 2, 2), {"strides": [3, 3]}),
    "dilations": ((1, 4, 5, 4), (4, 3, 3, 2), {"strides": [2, 1], "dilations": [2, 3]}),
    "groups": ((1, 4, 5, 8), (8, 3, 2, 2), {"strides": [2, 2], "group": 2}),
    "depthwise": ((1, 4, 5, 6), (6, 1, 4, 4), {"strides": [2, 2], "group": 6, "pads": [1, 1, 1, 1]}),
    "1-D": ((2, 9, 6), (6, 5, 4), {"strides": [2], "pads": [1, 2]}),
    "3-D": ((1, 2, 3, 2, 3), (3, 4, 2, 2, 3), {"strides": [2, 1, 2]}),
    "1x1": ((1, 3, 3, 8), (8, 20, 1, 1), {}),
}


def check(run_node, op, reference, case, threads):
    x_shape, w_shape, attributes = case
    channels_out = w_shape[0] if op == "QConv" else w_shape[1] * attributes.get("group", 1)
    x, w, deq, bias = layer(len(x_shape), x_shape, w_shape, channels_out)
    known = {k: v for k, v in attributes.items() if k != "kernel_shape"}
    want = oracle_value = reference(x, w, deq, bias, x_offset=11, **known)
    want = oracle.run_epilogue(oracle_value, "clip 0 -2.5 3.75")
    y, y_float, y2 = run_node(
        op,
        [x, w, deq, bias],
        ("y", "y_float", "y2"),
        threads=threads,
        x_offset=11,
        y_scale=30.5,
        y_offset=-3,
        y2_scale=7.25,
        y2_offset=100,
        epilogue="clip 0 -2.5 3.75",
        **attributes,
    )
    np.testing.assert_array_equal(y_float, want)
    np.testing.assert_array_equal(y, oracle.quantize(want, 30.5, -3))
    np.testing.assert_array_equal(y2, oracle.quantize(want, 7.25, 100))
    (alone,) = run_node(
        op, [x, w, deq[:1]], threads=threads, x_offset=11, y_scale=20.0, y_offset=5, **attributes
    )  # the frequent form: no bias, one deq, no epilogue, one output
    np.testing.assert_array_equal(alone, oracle.quantize(reference(x, w, deq[:1], x_offset=11, **known), 20.0, 5))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CONVS)
def test_conv(run_node, isa, name, threads):
    check(run_node, "QConv", oracle.q_conv, CONVS[name], threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose(run_node, isa, name, threads):
    check(run_node, "QConvTranspose", oracle.q_conv_transpose, TRANSPOSED[name], threads)


ORT_CASES = [("Conv", name) for name in CONVS] + [("ConvTranspose", name) for name in TRANSPOSED]


@pytest.mark.parametrize(("op", "name"), ORT_CASES)
def test_oracle_equals_onnx_runtimes_float_op(run_node, op, name):
    x_shape, w_shape, attributes = (CONVS if op == "Conv" else TRANSPOSED)[name]
    random = np.random.default_rng(7)
    x = random.integers(0, 256, x_shape, np.uint8)
    w = random.integers(-9, 10, w_shape, np.int8)  # sums stay exact in float32
    reference = oracle.q_conv if op == "Conv" else oracle.q_conv_transpose
    known = {k: v for k, v in attributes.items() if k != "kernel_shape"}
    ours = reference(x, w, [1.0], x_offset=-5, **known)
    float_x = np.moveaxis(x.astype(F32) - F32(123), -1, 1)
    (theirs,) = run_node(op, [float_x, w.astype(F32)], ("y_float",), domain="", types=FLOAT_OUT, **attributes)
    np.testing.assert_array_equal(np.moveaxis(ours, -1, 1), theirs)


def test_every_combination_of_outputs(run_node):
    x, w, deq, bias = layer(3, (2, 4, 5, 8), (6, 8, 3, 3), 6)
    want = oracle.q_conv(x, w, deq, bias)
    all_outputs = {
        "y": oracle.quantize(want, 9.0, 4),
        "y_float": np.moveaxis(want, -1, 1),
        "y2": oracle.quantize(want, 30.0, -7),
    }
    attributes = {"y_scale": 9.0, "y_offset": 4, "y2_scale": 30.0, "y2_offset": -7, "float_layout": "channels_first"}
    for mask in range(1, 8):
        names = [name for bit, name in enumerate(all_outputs) if mask >> bit & 1]
        for found, name in zip(run_node("QConv", [x, w, deq, bias], names, **attributes), names, strict=True):
            np.testing.assert_array_equal(found, all_outputs[name])


EPILOGUES = [
    "",
    "relu 0",
    "clip 0 0 6.0",
    "clip 0 -inf 1.5",
    "add 0 r0",
    "add r0 0;relu 1",
    "add 0 r0;add 1 r1;clip 2 -1.0 1e1",
    "mul 0 c0;add 1 c1",
    "leaky_relu 0 0.125",
    "add 0 3.0;clip 1 0.0 6.0;mul 0 2;div 3 6.0",
    "hard_sigmoid 0 0.16666667 0.5;mul 1 0",
    "sub r1 0;div 1 c1;mul 2 2;add 3 0;add 4 1;" + ";".join(f"mul {i} 0.5" for i in range(5, 16)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("shape", [(2, 5, 6, 12), (1, 30, 31, 12)])
def test_epilogues(run_node, isa, epilogue, shape, threads):
    x, w, deq, bias = layer(5, shape, (21, 12, 1, 1), 21)
    random = np.random.default_rng(1)
    residuals = [random.normal(0, 2, (*shape[:-1], 21)).astype(F32) for _ in range(2)]
    constants = random.uniform(0.5, 2, (2, 21)).astype(F32)
    y, y_float = run_node(
        "QConv",
        [x, w, deq, bias, constants, *residuals],
        ("y", "y_float"),
        epilogue=epilogue,
        y_scale=25.0,
        threads=threads,
    )
    want = oracle.run_epilogue(oracle.q_conv(x, w, deq, bias), epilogue, constants, *residuals)
    np.testing.assert_array_equal(y_float, want)
    np.testing.assert_array_equal(y, oracle.quantize(want, 25.0))
    (alone,) = run_node(
        "QConv", [x, w, deq, bias, constants, *residuals], epilogue=epilogue, y_scale=25.0, threads=threads
    )
    np.testing.assert_array_equal(alone, y)


def test_extremes(run_node, isa):
    for code, weight, offset in [(0, -128, 0), (255, -128, -128), (0, 127, 127), (0, -128, 127), (255, 127, -128)]:
        x = np.full((1, 4, 4, 64), code, np.uint8)
        w = np.full((8, 64, 3, 3), weight, np.int8)
        bias = np.array([2**31 - 1, -(2**31), 0, 1, -1, 2**30, -(2**30), 7], np.int32)
        (y,) = run_node("QConv", [x, w, np.ones(1, F32), bias], ("y_float",), x_offset=offset, pads=[1, 1, 1, 1])
        np.testing.assert_array_equal(y, oracle.q_conv(x, w, [1.0], bias, x_offset=offset, pads=[1, 1, 1, 1]))


def test_no_samples(run_node):
    x, w, deq, bias = layer(1, (0, 5, 5, 4), (6, 4, 3, 3), 6)
    y, y_float = run_node("QConv", [x, w, deq, bias], ("y", "y_float"), y_scale=1.0, float_layout="channels_first")
    assert y.shape == (0, 3, 3, 6)
    assert y_float.shape == (0, 6, 3, 3)


def test_sizes_may_change_between_runs(node_model):
    from ort_quant_plugin.ops.library import onnxruntime_module, session_options

    _, w, deq, bias = layer(1, (1, 1, 1, 4), (6, 4, 3, 3), 6)
    sizes = [(1, 5, 6, 4), (3, 9, 4, 4), (0, 3, 3, 4), (2, 5, 6, 4)]
    inputs = [np.random.default_rng(n).integers(0, 256, shape, np.uint8) for n, shape in enumerate(sizes)]
    model, _ = node_model("QConv", [inputs[0], w, deq, bias], ("y_float",), pads=[1, 0, 1, 0])
    session = onnxruntime_module().InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
    for x in inputs:
        (y,) = session.run(None, {"i0": x})
        np.testing.assert_array_equal(y, oracle.q_conv(x, w, deq, bias, pads=[1, 0, 1, 0]))


def valid_inputs():
    x, w, deq, bias = layer(1, (1, 5, 6, 8), (4, 8, 3, 3), 4)
    return [x, w, deq, bias]


REFUSED_ATTRIBUTES = [
    ({"x_offset": 128}, "attribute 'x_offset' is 128, expected an integer in [-128, 127]"),
    ({"x_offset": 1.0}, "attribute 'x_offset' is of type FLOAT, expected INT"),
    ({"x_offset": [1]}, "attribute 'x_offset' is of type INTS, expected INT"),
    ({"strides": [0, 1]}, "attribute 'strides' is [0,1], expected integers in [1, 16777216]"),
    ({"strides": [1]}, "attribute 'strides' is [1], expected 2 values for this rank"),
    ({"strides": 2}, "attribute 'strides' is of type INT, expected INTS"),
    ({"dilations": [1, -1]}, "attribute 'dilations' is [1,-1], expected integers"),
    ({"dilations": [2**40, 1]}, "attribute 'dilations' is [1099511627776,1], expected integers"),
    ({"pads": [0, -1, 0, 0]}, "attribute 'pads' is [0,-1,0,0], expected integers in [0, 16777216]"),
    ({"pads": list(range(65))}, "attribute 'pads' has 65 values, expected one or two per spatial axis"),
    (
        {"pads": [1, 1, 1, 1], "auto_pad": "VALID"},
        "attribute 'pads' is [1,1,1,1], expected zeros, because auto_pad is set",
    ),
    ({"auto_pad": "SAME"}, "attribute 'auto_pad' is \"SAME\", expected NOTSET, VALID, SAME_UPPER or SAME_LOWER"),
    ({"kernel_shape": [3, 2]}, "attribute 'kernel_shape' is [3,2], expected [3,3], the kernel size of input 'w'"),
    ({"group": 3}, "attribute 'group' is 3, expected a divisor of 4, the first size of input 'w' [4,8,3,3]"),
    ({"group": 0}, "attribute 'group' is 0, expected an integer in [1, "),
    ({"y_scale": 0.0}, "attribute 'y_scale' is 0, expected a finite number > 0 (1/scale_d)"),
    ({"y_scale": float("nan")}, "attribute 'y_scale' is nan, expected a finite number > 0"),
    ({"y_offset": -129}, "attribute 'y_offset' is -129, expected an integer in [-128, 127]"),
    ({"float_layout": "NCHW"}, "attribute 'float_layout' is \"NCHW\", expected channels_last or channels_first"),
    ({"epilogue": ["relu 0"]}, "attribute 'epilogue' is of type another type, expected STRING"),
    ({"epilogue": "swish 0"}, "attribute 'epilogue' is \"swish 0\", expected steps as documented: "),
    ({"epilogue": "add 0 1"}, "attribute 'epilogue' is \"add 0 1\""),
    ({"epilogue": "add 0 c0"}, "attribute 'epilogue' is \"add 0 c0\""),
    ({"epilogue": "clip 0 1.0"}, "attribute 'epilogue' is \"clip 0 1.0\""),
    ({"epilogue": "add 0 r0"}, "input 'r0' is missing, but attribute 'epilogue' is \"add 0 r0\""),
    ({"epilogue": ";".join(["relu 0"] * 17)}, "attribute 'epilogue' is"),
]


@pytest.mark.parametrize(("attributes", "message"), REFUSED_ATTRIBUTES)
def test_bad_attributes(run_node, attributes, message):
    with pytest.raises(Exception, match="QConv node 'n': ") as caught:
        run_node("QConv", valid_inputs(), **{"y_scale": 1.0, **attributes})
    assert message in str(caught.value)


def changed(index, array):
    inputs = valid_inputs()
    inputs[index:] = [*([array]), *inputs[index + 1 :]]
    return inputs


REFUSED_INPUTS = [
    (changed(1, np.zeros((4, 8), np.int8)), "input 'w' has shape [4,8], expected two channel sizes and one to three"),
    (changed(1, np.zeros((4, 0, 3, 3), np.int8)), "input 'w' has shape [4,0,3,3], expected"),
    (changed(2, np.ones(3, F32)), "input 'deq' has shape [3], expected [1] or [4]"),
    (changed(2, np.full(4, np.inf, F32)), "input 'deq' holds inf, expected finite numbers"),
    (changed(3, np.zeros(1, np.int32)), "input 'bias' has shape [1], expected [4]"),
    ([*valid_inputs(), np.ones((1, 3), F32)], "input 'channel_constants' has shape [1,3], expected [rows, 4]"),
    (
        changed(0, np.zeros((1, 5, 8), np.uint8)),
        "input 'x' has shape [1,5,8], expected 4 dimensions [N, spatial sizes, C]",
    ),
    (changed(0, np.zeros((1, 5, 6, 7), np.uint8)), "input 'x' has shape [1,5,6,7], expected 8 channels"),
    (
        changed(0, np.zeros((1, 0, 6, 8), np.uint8)),
        "input 'x' has shape [1,0,6,8], expected spatial sizes of at least 1",
    ),
    (
        changed(0, np.zeros((1, 2, 6, 8), np.uint8)),
        "the kernel covers 3 positions of spatial axis 0, but input 'x' with its",
    ),
]


@pytest.mark.parametrize(("inputs", "message"), REFUSED_INPUTS, ids=range(len(REFUSED_INPUTS)))
def test_bad_inputs(run_node, inputs, message):
    with pytest.raises(Exception, match="QConv node 'n'") as caught:
        run_node("QConv", inputs, y_scale=1.0)
    assert message in str(caught.value)


def test_bad_residual(run_node):
    residual = np.zeros((1, 4, 3, 4), F32)
    with pytest.raises(Exception, match=r"input 'r0' has shape \[1,4,3,4\], expected \[1,3,4,4\]"):
        run_node("QConv", [*valid_inputs(), None, residual], y_scale=1.0, epilogue="add 0 r0")


@pytest.mark.parametrize(("index", "name"), [(1, "w"), (2, "deq"), (3, "bias")])
def test_inputs_that_must_be_constant(run_node, index, name):
    with pytest.raises(
        Exception, match=rf"input '{name}' \(tensor 'i{index}'\) is not a constant, expected an initializer"
    ):
        run_node("QConv", valid_inputs(), constant={1, 2, 3} - {index}, y_scale=1.0)


def test_huge_outputs_are_refused(run_node):
    with pytest.raises(Exception, match=r"the output has the shape .*, expected fewer than 2\^31 elements"):
        run_node("QConv", valid_inputs(), y_scale=1.0, pads=[2**22, 2**22, 2**22, 2**22])


REFUSED_TRANSPOSED = [
    (
        {"output_padding": [2, 0], "strides": [2, 2]},
        "attribute 'output_padding' is 2 on one axis, expected less than the",
    ),
    (
        {"output_shape": [99, 9]},
        "attribute 'output_shape' is 99 on one axis, expected at most 7, the size without padding",
    ),
    ({"pads": [9, 0, 0, 0]}, "attribute 'pads' is 9 and 0 on one axis, expected less than 7 in sum"),
    ({"output_shape": [9]}, "attribute 'output_shape' is [9], expected 2 values"),
]


@pytest.mark.parametrize(("attributes", "message"), REFUSED_TRANSPOSED)
def test_bad_transposed_attributes(run_node, attributes, message):
    x, w, deq, _ = layer(1, (1, 5, 6, 8), (8, 4, 3, 3), 4)
    with pytest.raises(Exception, match="QConvTranspose node 'n'") as caught:
        run_node("QConvTranspose", [x, w, deq], y_scale=1.0, **attributes)
    assert message in str(caught.value)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_results_in_the_residual_s_place(tmp_path, layout):
    """Newer runtimes let y_float overwrite r0: here both have one shape, whatever the layout."""
    x, w, deq, bias = layer(5, (1, 7, 7, 7), (7, 7, 3, 3), 7)
    pads = {"pads": [1, 1, 1, 1]}
    epilogues = ["", "add 0 r0", "add 0 r0"]
    shape = ["batch", 7, 7, 7]
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape(shape))
    constants = [
        ir.Value(name=name, const_value=ir.tensor(array, name=name))
        for name, array in (("w", w), ("deq", deq), ("bias", bias))
    ]
    nodes, residual = [], None
    for index, epilogue in enumerate(epilogues):
        attributes = pads | {"epilogue": epilogue, "float_layout": layout if index == 2 else "channels_last"}
        node = ir.node(
            "QConv",
            [value, *constants, None, *([residual] if residual is not None else [])],
            attributes,
            domain="ort_quant",
            outputs=[ir.Value(name=""), ir.Value(name=f"y{index}")],
        )
        residual = node.outputs[1]
        residual.shape, residual.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        nodes.append(node)
    nodes.append(ir.node("Neg", [residual]))  # the graph's outputs have places of their own
    result = nodes[-1].outputs[0]
    result.name, result.shape, result.type = "result", residual.shape, residual.type
    graph = ir.Graph([value], [result], nodes=nodes, initializers=constants, opset_imports={"": 17, "ort_quant": 1})
    path = tmp_path / "model.onnx"
    ir.save(ir.Model(graph, ir_version=9), path)

    (y,) = open_session(path).run(None, {"x": x})

    once = oracle.q_conv(x, w, deq, bias, **pads)
    want = -(once + once + once)
    np.testing.assert_array_equal(y, want if layout == "channels_last" else np.moveaxis(want, -1, 1))
