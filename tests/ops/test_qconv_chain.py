"""QConvChain through ONNX Runtime equals the numpy oracle and the QConv nodes it stands for, and refuses the rest."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops import reference_int8 as oracle
from ort_quant_plugin.ops.library import onnxruntime_module, session_options

F32 = np.float32
TENSORS = ("w", "deq", "bias", "channel_constants")
END = ("epilogue", "channel_constants", "y_scale", "y_offset", "y2_scale", "y2_offset")
RELU6 = "clip 0 0.0 6.0"


def conv(channels_in, channels_out, kernel=1, **attributes):
    """Shape of the weights, attributes."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    return (channels_out, channels_in // attributes.get("group", 1), *kernel), attributes


def depthwise(channels, kernel, **attributes):
    return conv(channels, channels, kernel, group=channels, **attributes)


def block(expanded, out, kernel, c=16, **attributes):
    return [conv(c, expanded), depthwise(expanded, kernel, **attributes), conv(expanded, out)]


SMALL = {
    "3x3": ((2, 9, 11, 16), block(48, 24, 3, pads=[1, 1, 1, 1])),
    "3x3 stride 2": ((3, 12, 9, 16), block(40, 24, 3, strides=[2, 2], pads=[0, 0, 1, 1])),
    "5x5": ((1, 10, 7, 16), block(70, 9, 5, pads=[2, 2, 2, 2])),
    "5x5 stride 2": ((2, 13, 10, 16), block(33, 20, 5, strides=[2, 2], pads=[2, 1, 2, 3])),
    "dilation": ((1, 12, 13, 16), block(32, 8, 3, dilations=[2, 3], pads=[2, 3, 2, 3])),
    "asymmetric": ((1, 8, 9, 16), block(24, 8, (3, 2), strides=[1, 2], pads=[2, 0, 1, 3])),
    "same upper": ((1, 8, 9, 16), block(24, 8, (3, 4), strides=[2, 2], auto_pad="SAME_UPPER", kernel_shape=[3, 4])),
    "same lower": ((1, 8, 9, 16), block(24, 8, (3, 4), strides=[2, 2], auto_pad="SAME_LOWER")),
    "valid": ((1, 8, 9, 16), block(24, 8, 3, auto_pad="VALID")),
    "rows of padding alone": ((2, 4, 5, 16), block(24, 8, 3, pads=[5, 4, 6, 3])),
    "stride beyond the kernel": ((1, 11, 12, 16), block(24, 8, 2, strides=[4, 3])),
    "one position": ((5, 1, 1, 16), block(24, 8, 3, pads=[1, 1, 1, 1])),
    "dense first": ((1, 17, 15, 3), [conv(3, 32, 3, strides=[2, 2]), depthwise(32, 3, pads=[1] * 4), conv(32, 16)]),
    "dense last": ((1, 9, 8, 8), [conv(8, 24, pads=[1, 0, 0, 2]), depthwise(24, 3), conv(24, 5, 3, strides=[2, 1])]),
    "dense only": ((2, 9, 8, 8), [conv(8, 24, 3), conv(24, 12, 2, group=4), conv(12, 7, 3, pads=[1, 2, 1, 2])]),
    "depthwise only": ((1, 9, 8, 20), [depthwise(20, 3), depthwise(20, 3, pads=[1] * 4), depthwise(20, 2)]),
    "two, depthwise first": ((2, 9, 11, 32), [depthwise(32, 3, pads=[1] * 4), conv(32, 24)]),
    "two, depthwise last": ((2, 9, 11, 12), [conv(12, 36), depthwise(36, 5, pads=[2] * 4, strides=[2, 2])]),
}
# More than the cache is given between two stages: computed strip by strip.
LARGE = {
    "3x3": ((2, 56, 57, 16), block(144, 24, 3, pads=[1, 1, 1, 1])),
    "3x3 stride 2": ((1, 112, 112, 16), block(96, 24, 3, strides=[2, 2], pads=[1, 1, 1, 1])),
    "5x5 stride 2": ((1, 75, 61, 16), block(144, 40, 5, strides=[2, 2], pads=[1, 2, 2, 2])),
    "dilation": ((1, 70, 66, 16), block(96, 8, 3, dilations=[5, 2], pads=[5, 2, 5, 2])),
    "same upper": ((1, 75, 61, 16), block(144, 8, 5, strides=[2, 3], auto_pad="SAME_UPPER")),
    "rows of padding alone": ((1, 50, 62, 16), block(160, 8, 3, pads=[9, 0, 11, 0])),
    "stride beyond the kernel": ((1, 97, 62, 16), block(96, 8, 2, strides=[5, 3])),
    "dense first": ((1, 120, 90, 3), [conv(3, 64, 3, pads=[1] * 4), depthwise(64, 3, pads=[1] * 4), conv(64, 8)]),
    "dense last": ((1, 64, 80, 8), [conv(8, 96), depthwise(96, 3), conv(96, 8, 3, strides=[2, 2], pads=[0, 1, 3, 0])]),
    "depthwise only": ((1, 77, 80, 96), [depthwise(96, 3), depthwise(96, 3, strides=[2, 1]), depthwise(96, 3)]),
    "two, depthwise first": ((1, 70, 66, 144), [depthwise(144, 3, pads=[1] * 4), conv(144, 24)]),
    "two, depthwise last": ((2, 70, 66, 16), [conv(16, 144), depthwise(144, 3, pads=[1] * 4)]),
    "a row alone is too large": ((1, 5, 2500, 8), block(96, 8, 3, c=8, pads=[1, 1, 1, 1])),
}
CASES = {
    f"{size}: {name}": case for size, cases in (("small", SMALL), ("large", LARGE)) for name, case in cases.items()
}


@functools.cache
def made(name, epilogue=RELU6, last_epilogue="", *, bias=True):
    """x, stages (the arguments of the oracle and what stands behind each), residuals, and the float result."""
    x_shape, layers = CASES[name]
    random = np.random.default_rng(len(name))
    x = random.integers(0, 256, x_shape, np.uint8)
    stages = []
    for number, (w_shape, attributes) in enumerate(layers):
        channels, products = w_shape[0], int(np.prod(w_shape[1:]))
        stage = {"w": random.integers(-128, 128, w_shape, np.int8), "x_offset": 11 - 40 * number, **attributes}
        stage["deq"] = (random.uniform(1, 3, channels) / 5000 / np.sqrt(products)).astype(F32)
        if bias:
            stage["bias"] = random.integers(-9000, 9000, channels).astype(np.int32)
        stage |= {"y_scale": 30.5 + number, "y_offset": -29 - 40 * number}
        stage["epilogue"] = last_epilogue if number + 1 == len(layers) else epilogue
        if "c1" in stage["epilogue"]:
            stage["channel_constants"] = random.uniform(0.5, 1.5, (2, channels)).astype(F32)
        stages.append(stage)
    value = oracle.q_conv_chain(x, bare(stages))
    residuals = [random.normal(0, 2, value.shape).astype(F32) for _ in range(2)]
    return (
        x,
        stages,
        residuals,
        oracle.run_epilogue(value, last_epilogue, stages[-1].get("channel_constants"), *residuals),
    )


def bare(stages):
    """For the oracle: ONNX's redundant attribute, and what stands behind the last stage, left out."""
    known = [{k: v for k, v in stage.items() if k != "kernel_shape"} for stage in stages]
    return [*known[:-1], {k: v for k, v in known[-1].items() if k not in END}]


def chain_inputs(x, stages, residuals=()):
    inputs = [x, *(stage.get(name) for stage in stages for name in TENSORS)]
    if residuals:
        inputs += [None] * (13 - len(inputs))
    inputs += residuals
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def chain_attributes(stages, **last):
    stages = [*stages[:-1], stages[-1] | last]
    return {f"stage{n}_{k}": v for n, stage in enumerate(stages) for k, v in stage.items() if k not in TENSORS}


def run_chain(run_node, case, outputs=("y",), *, residuals=(), threads=1, **last):
    x, stages, *_ = case
    inputs, attributes = chain_inputs(x, stages, residuals), chain_attributes(stages, **last)
    return run_node("QConvChain", inputs, outputs, threads=threads, **attributes)


def run_nodes(run_node, case, outputs, residuals=(), **last):
    """The same by QConv nodes."""
    x, stages, *_ = case
    for number, stage in enumerate(stages):
        at_the_end = number + 1 == len(stages)
        inputs = [x, *(stage.get(name) for name in TENSORS), *(residuals if at_the_end else ())]
        attributes = {k: v for k, v in stage.items() if k not in TENSORS} | (last if at_the_end else {})
        x, *others = run_node("QConv", inputs, outputs if at_the_end else ("y",), threads=2, **attributes)
    return [x, *others]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_one_output(run_node, isa, name, threads):
    case = made(name)
    (y,) = run_chain(run_node, case, threads=threads)
    last = case[1][-1]
    np.testing.assert_array_equal(y, oracle.quantize(case[3], last["y_scale"], last["y_offset"]))


@pytest.mark.parametrize("name", CASES)
def test_the_nodes_one_after_the_other(run_node, name):
    case, names = made(name, bias=False), ("y", "y_float", "y2")
    ends = {"y2_scale": 7.25, "y2_offset": 100}
    expected = run_nodes(run_node, case, names, **ends)
    assert len(np.unique(expected[0])) > 20 or "one position" in name  # the layers hand on more than limits
    for found in (run_chain(run_node, case, names, threads=threads, **ends) for threads in (1, 2)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(expected[1], case[3])


EPILOGUES = [
    ("", "add 0 r0"),
    ("mul 0 c0;add 1 c1;clip 2 0.0 6.0", "add 0 r0;relu 1"),
    ("add 0 3.0;clip 1 0.0 6.0;mul 0 2;div 3 6.0", "mul 0 c0;add 1 c1;add 2 r1;sub 3 r0"),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["small: 3x3", "large: 3x3", "large: two, depthwise last", "large: dense last"])
@pytest.mark.parametrize(("epilogue", "last_epilogue"), EPILOGUES)
def test_epilogues_and_residuals(run_node, isa, name, epilogue, last_epilogue, threads):
    case = made(name, epilogue, last_epilogue)
    outputs = {
        "y": oracle.quantize(case[3], 25.0, -3),
        "y_float": case[3],
        "y2": oracle.quantize(case[3], 7.25, 100),
    }
    ends = {"y_scale": 25.0, "y_offset": -3, "y2_scale": 7.25, "y2_offset": 100, "float_layout": "channels_last"}
    for names in (["y", "y_float"], ["y2"], ["y_float"]):
        found = run_chain(run_node, case, names, residuals=case[2], threads=threads, **ends)
        for one, output in zip(found, names, strict=True):
            np.testing.assert_array_equal(one, outputs[output])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["small: 3x3", "large: 3x3", "large: two, depthwise first"])
def test_a_residual_that_nobody_else_reads(node_model, name, threads):
    """ONNX Runtime may give the float output the residual's memory."""
    x, stages, residuals, want = made(name, RELU6, "add 0 r0")
    attributes = chain_attributes(stages)
    content, feeds = node_model("QConvChain", chain_inputs(x, stages, residuals[:1]), ("y", "y_float"), **attributes)
    model = ir.from_proto(onnx.ModelProto.FromString(content))
    (chain,) = model.graph
    residual = chain.inputs[13]
    negated = ir.node("Neg", [residual], name="negated")
    negated.outputs[0].name = "negated"
    chain.replace_input_with(13, negated.outputs[0])
    model.graph.insert_before(chain, negated)
    feeds[residual.name] = -feeds[residual.name]
    session = session_of(ir.to_proto(model).SerializeToString(), threads)
    for _ in range(2):
        y, y_float = session.run(None, feeds)
        np.testing.assert_array_equal(y_float, want)
        np.testing.assert_array_equal(y, oracle.quantize(want, stages[-1]["y_scale"], stages[-1]["y_offset"]))


def session_of(model, threads):
    options = session_options(log_severity_level=4, intra_op_num_threads=threads)
    return onnxruntime_module().InferenceSession(model, options, providers=["CPUExecutionProvider"])


def test_inputs_left_off_may_be_named_empty(run_node):
    x, stages, _, want = made("small: two, depthwise first")
    inputs = chain_inputs(x, stages)
    attributes = chain_attributes(stages)
    (y,) = run_node("QConvChain", [*inputs, *[None] * (15 - len(inputs))], ("y_float",), **attributes)
    np.testing.assert_array_equal(y, want)


SIZES = [(1, 60, 61), (3, 9, 10), (0, 9, 10), (2, 61, 60), (7, 20, 40), (1, 60, 61)]


@pytest.mark.parametrize("threads", [1, 2])
def test_sizes_may_change_between_runs(node_model, threads):
    _, stages, *_ = made("small: 3x3 stride 2")
    random = np.random.default_rng(3)
    inputs = [random.integers(0, 256, (*shape, 16), np.uint8) for shape in SIZES]
    session = session_of(
        node_model("QConvChain", chain_inputs(inputs[0], stages), **chain_attributes(stages))[0], threads
    )
    last = stages[-1]
    for x in inputs:
        (y,) = session.run(None, {"i0": x})
        want = oracle.q_conv_chain(x, bare(stages))
        np.testing.assert_array_equal(y, oracle.quantize(want, last["y_scale"], last["y_offset"]))


def test_several_callers_at_once(node_model):
    """Each thread has rows of its own, of runs that interleave."""
    _, stages, *_ = made("small: 3x3")
    random = np.random.default_rng(4)
    inputs = [random.integers(0, 256, (1, 60 + n, 100, 16), np.uint8) for n in range(4)]
    wanted = [oracle.q_conv_chain(x, bare(stages)) for x in inputs]
    content, _ = node_model("QConvChain", chain_inputs(inputs[0], stages), ("y_float",), **chain_attributes(stages))
    session = session_of(content, 2)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: session.run(None, {"i0": x})[0], inputs * 5))
    for found, want in zip(results, wanted * 5, strict=True):
        np.testing.assert_array_equal(found, want)


def without(number, name):
    def change(stages):
        del stages[number][name]

    return change


def given(number, **values):
    def change(stages):
        stages[number] |= values

    return change


REFUSED = [
    (
        given(1, w=np.ones((44, 1, 3, 3), np.int8), deq=np.ones(1, F32), bias=None, group=44),
        1,
        "input 'w' has 44 input channels, expected 48, as many as the stage before gives. Correct",
    ),
    (given(2, w=np.ones((24, 40, 1, 1), np.int8)), 2, "input 'w' has 40 input channels, expected 48"),
    (without(0, "y_scale"), 0, "attribute 'y_scale' is missing"),
    (without(1, "y_scale"), 1, "attribute 'y_scale' is missing"),
    (without(2, "y_scale"), 2, "attribute 'y_scale' is missing"),
    (given(1, y_offset=200), 1, "attribute 'y_offset' is 200, expected an integer in [-128, 127]"),
    (given(0, x_offset=-129), 0, "attribute 'x_offset' is -129, expected an integer in [-128, 127]"),
    (given(0, w=np.ones((48, 16, 1), np.int8)), 0, "input 'w' has 1 spatial sizes, expected 2. Use QConv."),
    (given(2, w=np.ones((24, 48, 1, 1, 1), np.int8)), 2, "input 'w' has 3 spatial sizes, expected 2. Use QConv."),
    (given(1, w=np.ones((48, 9), np.int8)), 1, "input 'w' has shape [48,9], expected two channel sizes"),
    (
        given(2, float_layout="channels_first"),
        2,
        'attribute \'float_layout\' is "channels_first", expected "channels_last". Use QConv.',
    ),
    (given(1, strides=[1]), 1, "attribute 'strides' is [1], expected 2 values"),
    (given(1, group=5), 1, "attribute 'group' is 5, expected a divisor of 48"),
    (given(1, pads=[1] * 4, auto_pad="VALID"), 1, "attribute 'pads' is [1,1,1,1], expected zeros"),
    (given(0, epilogue="swish 0"), 0, "attribute 'epilogue' is \"swish 0\", expected steps as documented: "),
    (given(1, epilogue="add 0 r0"), 1, "input 'r0' is missing, but attribute 'epilogue' is \"add 0 r0\""),
    (given(2, epilogue="add 0 r0"), 2, "input 'r0' is missing, but attribute 'epilogue' is \"add 0 r0\""),
    (given(1, deq=np.ones(3, F32)), 1, "input 'deq' has shape [3], expected [1] or [48]"),
    (given(1, bias=np.ones(3, np.int32)), 1, "input 'bias' has shape [3], expected [48]"),
    (
        given(2, channel_constants=np.ones((1, 3), F32)),
        2,
        "input 'channel_constants' has shape [1,3], expected [rows, 24]",
    ),
]


@pytest.mark.parametrize(("change", "stage", "message"), REFUSED, ids=range(len(REFUSED)))
def test_malformed_stages(run_node, change, stage, message):
    """The status names the stage, what is wrong there, and what to do."""
    x, stages, *_ = made("small: 3x3")
    stages = [{**one} for one in stages]
    change(stages)
    with pytest.raises(Exception, match=rf"QConvChain node 'n': .*stage {stage}.*'w{stage}'") as caught:
        run_chain(run_node, (x, stages))
    assert message in str(caught.value)


@pytest.mark.parametrize("index", [1, 6, 11])
def test_inputs_that_must_be_constant(run_node, index):
    x, stages, *_ = made("small: 3x3")
    stage, name = divmod(index - 1, 4)
    with pytest.raises(
        Exception, match=rf"stage {stage}.* input '{TENSORS[name]}' .*is not a constant, expected an initializer"
    ):
        run_node(
            "QConvChain", chain_inputs(x, stages), constant=set(range(1, 13)) - {index}, **chain_attributes(stages)
        )


def test_one_stage_alone_is_refused(run_node):
    x, stages, *_ = made("small: two, depthwise first")
    with pytest.raises(Exception, match=r"input 'w1' is missing, expected the weights of at least two stages"):
        run_chain(run_node, (x, stages[:1]))


BAD_FEEDS = [
    (np.zeros((1, 5, 16), np.uint8), "input 'x' has shape [1,5,16], expected 4 dimensions [N, spatial sizes, C]"),
    (np.zeros((1, 5, 5, 15), np.uint8), "input 'x' has shape [1,5,5,15], expected 16 channels"),
    (np.zeros((1, 0, 5, 16), np.uint8), "input 'x' has shape [1,0,5,16], expected spatial sizes of at least 1"),
    (np.zeros((1, 2, 5, 16), np.uint8), "stage 1"),
]


@pytest.mark.parametrize(("x", "message"), BAD_FEEDS, ids=range(len(BAD_FEEDS)))
def test_bad_feeds(run_node, x, message):
    _, stages, *_ = made("small: valid")
    with pytest.raises(Exception, match="QConvChain node 'n'") as caught:
        run_chain(run_node, (x, stages))
    assert message in str(caught.value)


def test_bad_residual(run_node):
    x, stages, residuals, _ = made("small: 3x3", RELU6, "add 0 r0")
    with pytest.raises(Exception, match=r"input 'r0' has shape \[2,8,11,24\], expected \[2,9,11,24\]"):
        run_chain(run_node, (x, stages), residuals=[residuals[0][:, 1:]])


def test_huge_maps_between_are_refused(run_node):
    """The last output would be small."""
    x, stages, *_ = made("small: two, depthwise first")
    grown = [stages[0] | {"pads": [2**22] * 4}, stages[1] | {"strides": [2**20, 2**20]}]
    with pytest.raises(Exception, match=r"has the shape .*, expected fewer than 2\^31 elements"):
        run_chain(run_node, (x, grown))
