"""The library that runs untouched deploy models: every int8 layer against the float operator on the same integers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops.library import onnxruntime_module, session_options
from ort_quant_plugin.qparams import pack_deq_scale

LEVELS = ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
RUNS = [("ORT_DISABLE_ALL", 2), *((level, 1) for level in LEVELS)]
ONE = pack_deq_scale(np.float32([1.0]))


def parse(text: str, opset: int, constants: dict[str, np.ndarray]):
    header = f'<ir_version: 8, opset_import: ["": {opset}, "amct.customop": 1]>\n'
    proto = onnx.parser.parse_model(header + text)
    proto.graph.initializer.extend(ir.to_proto(ir.tensor(np.asarray(a), name=n)) for n, a in constants.items())
    for graph in [proto.graph, *(a.g for n in proto.graph.node for a in n.attribute if a.HasField("g"))]:
        for node in graph.node:
            node.name = f"node_{node.output[0]}"
    return proto


def session(text: str, *, opset=13, deploy=True, level="ORT_ENABLE_ALL", threads=1, **constants):
    """A session of a graph in ONNX text; keyword arguments become initializers."""
    ort = onnxruntime_module()
    options = session_options(
        run_deploy_models=deploy,
        graph_optimization_level=getattr(ort.GraphOptimizationLevel, level),
        intra_op_num_threads=threads,
        log_severity_level=4,
    )
    proto = parse(text, opset, constants).SerializeToString()
    return ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])


def run(text: str, x: np.ndarray, **choices) -> np.ndarray:
    return session(text, **choices).run(None, {"x": x})[0]


def float_constants(constants):
    return {n: a.astype(np.float32) if a.dtype in (np.int8, np.int32) else a for n, a in constants.items()}


def check(layer: str, x: np.ndarray, constants: dict[str, np.ndarray], offset: int, *, opset=13):
    """``layer`` makes t of the integers q. The float model runs in a session without the library."""
    dims = ",".join(map(str, x.shape))
    quant = f"AscendQuant <scale: float = 2.0, offset: float = {float(offset)}> (x)"
    head = f"g (float[{dims}] x) => (float[] y) {{ q = "
    fake = f"{head} amct.customop.{quant} {layer} y = Identity (t) }}"
    deploy = f"{head} {quant} {layer} y = AscendDequant (t, one) }}"
    expected = run(fake, x, opset=opset, deploy=False, level="ORT_DISABLE_ALL", **float_constants(constants))
    assert np.abs(expected).max() > 0
    for level, threads in RUNS:
        y = run(deploy, x, opset=opset, level=level, threads=threads, one=ONE, **constants)
        np.testing.assert_array_equal(y, expected, err_msg=f"{level}, {threads} threads")


def integers(rng, *shape):
    values = rng.integers(-128, 128, shape).astype(np.int8)
    values.flat[0] = -128
    return values


OFFSETS = [-128, 5, 127]

# name: (x shape, w shape, attributes)
CONVOLUTIONS = {
    "1-D": ((2, 3, 17), (4, 3, 3), "pads = [2, 1], strides = [2]"),
    "2-D": ((2, 3, 9, 8), (5, 3, 3, 3), "pads = [1, 1, 1, 1]"),
    "3-D": ((1, 2, 5, 6, 7), (3, 2, 3, 2, 3), "pads = [1, 0, 2, 0, 1, 1], strides = [1, 2, 1]"),
    "pointwise": ((1, 37, 9, 31), (19, 37, 1, 1), ""),
    "asymmetric": ((1, 4, 9, 8), (3, 4, 3, 2), "pads = [2, 0, 0, 1], strides = [2, 3]"),
    "dilated": ((1, 2, 12, 11), (3, 2, 3, 3), "dilations = [3, 2], pads = [3, 2, 3, 2]"),
    "grouped": ((2, 6, 7, 7), (9, 2, 3, 3), "group = 3, pads = [1, 1, 1, 1]"),
    "depthwise": ((1, 8, 10, 10), (8, 1, 5, 5), "group = 8, pads = [2, 2, 2, 2], strides = [2, 2]"),
    "same upper": ((1, 2, 8, 9), (3, 2, 3, 4), 'auto_pad = "SAME_UPPER", strides = [2, 2]'),
    "same lower": ((1, 2, 8, 9), (3, 2, 3, 4), 'auto_pad = "SAME_LOWER", strides = [2, 2]'),
    "valid": ((1, 2, 8, 9), (3, 2, 3, 4), 'auto_pad = "VALID"'),
    "whole": ((2, 16, 4, 4), (10, 16, 4, 4), "kernel_shape = [4, 4]"),
}


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv(case, offset):
    x_shape, w_shape, attributes = CONVOLUTIONS[case]
    rng = np.random.default_rng(len(case))
    x = rng.uniform(-70, 70, x_shape).astype(np.float32)
    constants = {"w": integers(rng, *w_shape), "b": rng.integers(-9999, 9999, w_shape[0]).astype(np.int32)}
    check(f"t = Conv <{attributes}> (q, w, b)" if attributes else "t = Conv (q, w, b)", x, constants, offset)


TRANSPOSED = {
    "1-D": ((2, 3, 7), (3, 4, 3), "strides = [2], pads = [1, 0]", 1),
    "2-D": ((1, 4, 6, 5), (4, 3, 3, 3), "strides = [2, 3], pads = [1, 0, 2, 1], output_padding = [1, 2]", 1),
    "3-D": ((1, 2, 3, 4, 3), (2, 3, 2, 3, 2), "strides = [2, 1, 2]", 1),
    "grouped": ((1, 6, 5, 5), (6, 2, 3, 3), "group = 3, strides = [2, 2]", 3),
    "dilated": ((1, 2, 5, 5), (2, 3, 3, 3), "dilations = [2, 3]", 1),
    "output shape": ((1, 2, 5, 5), (2, 3, 4, 4), "strides = [2, 2], output_shape = [10, 11]", 1),
    "same": ((1, 2, 5, 5), (2, 3, 4, 4), 'strides = [2, 2], auto_pad = "SAME_UPPER"', 1),
}


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose(case, offset):
    x_shape, w_shape, attributes, group = TRANSPOSED[case]
    rng = np.random.default_rng(len(case))
    x = rng.uniform(-70, 70, x_shape).astype(np.float32)
    constants = {"w": integers(rng, *w_shape), "b": rng.integers(-9999, 9999, w_shape[1] * group).astype(np.int32)}
    check(f"t = ConvTranspose <{attributes}> (q, w, b)", x, constants, offset)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("bias", [None, (7,), (1, 7), (5, 1), ()])
@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(trans_a, trans_b, bias, offset):
    rng = np.random.default_rng(3)
    x = rng.uniform(-70, 70, (33, 5) if trans_a else (5, 33)).astype(np.float32)
    constants = {"w": integers(rng, *((7, 33) if trans_b else (33, 7)))}
    if bias is not None:
        constants["b"] = rng.integers(-9999, 9999, bias).astype(np.int32)
    inputs = "q, w" if bias is None else "q, w, b"
    check(f"t = Gemm <transA = {trans_a}, transB = {trans_b}> ({inputs})", x, constants, offset)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((70, 130), (130, 67)),
        ((2, 3, 5), (5, 4)),
        ((5,), (5, 4)),
        ((3, 5), (5,)),
        ((2, 1, 3, 5), (4, 5, 2)),
        ((3, 5), (2, 5, 4)),
        ((1, 2, 3, 5), (3, 1, 5, 2)),
    ],
)
def test_matmul_with_bias(a, b, offset):
    """AMCT's bias of a MatMul is an Add on the integers."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-70, 70, a).astype(np.float32)
    bias = rng.integers(-9999, 9999, 1).astype(np.int32)
    check("m = MatMul (q, w) t = Add (m, b)", x, {"w": integers(rng, *b), "b": bias}, offset)


def test_matmul_of_two_activations():
    rng = np.random.default_rng(5)
    x = rng.uniform(-70, 70, (4, 6)).astype(np.float32)
    text = """g (float[4,6] x) => (float[4,4] y) {{
        z = Transpose (x)
        p = {0}AscendQuant <scale: float = 2.0, offset: float = 3.0> (x)
        q = {0}AscendQuant <scale: float = 1.5, offset: float = -7.0> (z)
        t = MatMul (p, q) y = {1} }}"""
    fake = run(text.format("amct.customop.", "Identity (t)"), x, deploy=False)
    np.testing.assert_array_equal(run(text.format("", "AscendDequant (t, one)"), x, one=ONE), fake)


POOLS = {
    "1-D": ((2, 3, 9), "kernel_shape = [4]", 11),
    "2-D": ((1, 3, 9, 8), "kernel_shape = [3, 3], strides = [2, 2]", 11),
    "3-D": ((1, 2, 5, 6, 7), "kernel_shape = [2, 3, 2]", 11),
    "padded": ((1, 3, 9, 8), "kernel_shape = [3, 3], pads = [1, 0, 2, 1]", 11),
    "counted pads": ((1, 3, 9, 8), "kernel_shape = [3, 3], pads = [1, 0, 2, 1], count_include_pad = 1", 11),
    "same": ((1, 3, 9, 8), 'kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]', 11),
    "ceil": ((1, 3, 10, 9), "kernel_shape = [3, 3], ceil_mode = 1, strides = [2, 2]", 11),
    "global": ((2, 40, 7, 7), "kernel_shape = [7, 7]", 11),
    "opset 19": ((1, 3, 9, 8), "kernel_shape = [3, 7], pads = [1, 0, 2, 1]", 19),
    "gaps": ((1, 3, 9, 8), "kernel_shape = [3, 3], dilations = [2, 1]", 19),
}


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("case", POOLS)
def test_average_pool(case, offset):
    shape, attributes, opset = POOLS[case]
    x = np.random.default_rng(6).uniform(-70, 70, shape).astype(np.float32)
    check(f"t = AveragePool <{attributes}> (q)", x, {}, offset, opset=opset)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("layer", ["AveragePool <kernel_shape = [3, 3]> (p)", "Conv (p, w)"])
def test_padding_behind_the_quantizer_is_a_real_zero(layer, offset, opset):
    rng = np.random.default_rng(7)
    x = rng.uniform(-70, 70, (1, 3, 6, 5)).astype(np.float32)
    constants = {"pads": np.array([0, 0, 1, 2, 0, 0, 2, 1])}
    if "w" in layer:
        constants["w"] = integers(rng, 4, 3, 3, 3)
    check(f"p = Pad (q, pads) t = {layer}", x, constants, offset, opset=opset)


def test_pads_as_attributes():
    x = np.random.default_rng(7).uniform(-70, 70, (1, 3, 6, 5)).astype(np.float32)
    layer = "p = Pad <pads = [0, 0, 1, 2, 0, 0, 2, 1]> (q) t = AveragePool <kernel_shape = [3, 3]> (p)"
    check(layer, x, {}, 9, opset=9)


def test_sums_wrap_and_reach_their_extremes():
    """−128·−128 with the offset at its ends; a sum beyond 2^24 is exact here and beyond 2^31 wraps around."""
    x = np.full((1, 70000), -1e9, np.float32)
    text = """g (float[1,70000] x) => (int32[1,2] t) {
        q = AscendQuant <scale: float = 1.0, offset: float = 127.0> (x) t = MatMul (q, w) }"""
    w = np.tile(np.int8([[-128, 127]]), (70000, 1))
    expected = np.array([[255 * 128 * 70000, -255 * 127 * 70000]], np.int64)
    assert (np.abs(expected) > 2**31).all()
    np.testing.assert_array_equal(run(text, x, w=w), expected.astype(np.int32))


def test_half_precision_input():
    x = np.linspace(-80, 80, 301).astype(np.float16)
    text = "g (float16[301] x) => (int8[301] q) { q = AscendQuant <scale: float = 1.3, offset: float = -4.0> (x) }"
    expected = np.clip(np.rint(x.astype(np.float32) * np.float32(1.3)) - 4, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(run(text, x), expected)


@pytest.mark.parametrize("dst_type", ['string = "INT8"', "int = 2", 'string = "INT4"', "int = 29"])
@pytest.mark.parametrize("twice", [0, 1])
def test_quantizer_attributes(dst_type, twice):
    x = np.linspace(-80, 80, 301).astype(np.float32)
    attributes = f"scale: float = 1.25, offset: float = 3.0, dst_type: {dst_type}, sqrt_mode: int = {twice}"
    text = f"g (float[301] x) => (int8[301] q) {{ q = AscendQuant <{attributes}> (x) }}"
    bound = 8 if "4" in dst_type or "29" in dst_type else 128
    scaled = x * np.float32(1.25) * np.float32(1.25 if twice else 1)
    np.testing.assert_array_equal(run(text, x), np.clip(np.rint(scaled) + 3, -bound, bound - 1).astype(np.int8))


def test_dequantizer_attributes():
    sums = np.array([[-(2**31), 2**31 - 1, -70000, 1000, 5]], np.int32).repeat(2, 0).reshape(2, 5)
    graph = "g (int32[2,5] x) => (float[2,5] y) {{ y = AscendDequant <{}> (x, s) }}"
    scale = np.float32([0.25, 3, 0.1, 7, 1e-3])
    packed = pack_deq_scale(scale)
    values = sums.astype(np.float32)
    np.testing.assert_array_equal(run(graph.format("dtype: int = 0"), sums, s=packed), values * scale)
    np.testing.assert_array_equal(run(graph.format("sqrt_mode: int = 1"), sums, s=packed), values * scale * scale)
    np.testing.assert_array_equal(
        run(graph.format("relu_flag: int = 1"), sums, s=packed), np.maximum(values * scale, 0)
    )
    shifted = pack_deq_scale(np.float32([0.5]), 3)
    expected = np.clip(np.floor(values / 8), -32768, 32767) * np.float32(4)
    np.testing.assert_array_equal(run(graph.format("dtype: int = 0"), sums, s=shifted), expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_anti_quantizer(sign):
    x = np.linspace(-80, 80, 301).astype(np.float32)
    text = f"""g (float[301] x) => (float[301] y) {{
        q = AscendQuant <scale: float = 1.25, offset: float = 7.0> (x)
        y = AscendAntiQuant <scale: float = 0.8, offset: float = {7.0 * sign}, dtype: int = 0> (q) }}"""
    expected = (np.clip(np.rint(x * np.float32(1.25)) + 7, -128, 127) - 7) * np.float32(0.8)
    np.testing.assert_array_equal(run(text, x), expected.astype(np.float32))


def test_weights_behind_their_own_quantizer():
    rng = np.random.default_rng(8)
    x = rng.uniform(-70, 70, (2, 9)).astype(np.float32)
    w = integers(rng, 9, 4)
    text = """g (float[2,9] x) => (int32[2,4] t) {{
        q = AscendQuant <scale: float = 1.0, offset: float = 7.0> (x)
        v = {} t = MatMul (q, v) }}"""
    direct = run(text.format("Identity (w)"), x, level="ORT_ENABLE_BASIC", w=w)
    for level in LEVELS:
        zero = np.zeros(1, np.int8)
        y = run(text.format("AscendWeightQuant (w, o)"), x, level=level, w=w, o=zero)
        np.testing.assert_array_equal(y, direct)


# Float tensors are ONNX Runtime's own business.

FLOAT = {
    "Conv": ("y = Conv <group = 2, pads = [1, 0, 2, 1], strides = [2, 1]> (x, w, b)", {"w": (6, 2, 3, 3), "b": (6,)}),
    "Conv without bias": ("y = Conv (x, w)", {"w": (5, 4, 1, 1)}),
    "Conv of computed weights": ("v = Mul (w, s) y = Conv (x, v)", {"w": (5, 4, 3, 3), "s": (1,)}),
    "fused Conv": ("t = Conv (x, w, b) y = Relu (t)", {"w": (5, 4, 3, 3), "b": (5,)}),
    "Conv 3-D": ("r = Reshape (x, shape) y = Conv (r, w)", {"w": (5, 4, 2, 2, 2)}),
    "ConvTranspose": (
        "y = ConvTranspose <group = 2, strides = [2, 1], output_padding = [1, 0]> (x, w, b)",
        {"w": (4, 3, 3, 3), "b": (6,)},
    ),
    "Gemm": ("r = Flatten (x) y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (r, w, b)", {"w": (7, 96), "b": (7,)}),
    "Gemm of two inputs": ("r = Flatten <axis = 3> (x) y = Gemm (r, w)", {"w": (4, 7)}),
    "MatMul": ("y = MatMul (x, w)", {"w": (4, 7)}),
    "MatMul and Add": ("t = MatMul (x, w) y = Add (t, b)", {"w": (4, 7), "b": (7,)}),
    "MatMul, batched": ("y = MatMul (x, w)", {"w": (4, 4, 5)}),
    "AveragePool": ("y = AveragePool <kernel_shape = [3, 2], pads = [1, 0, 1, 1], count_include_pad = 1> (x)", {}),
    "AveragePool, ceil": ("y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)", {}),
    "Pad and Conv": ("p = Pad (x, pads) y = Conv (p, w)", {"w": (5, 4, 3, 3)}),
    "Pad by a value": ("y = Pad (x, cut, v)", {"v": ()}),
    "Pad by reflection": ('y = Pad <mode = "reflect"> (x, cut)', {}),
    "Pad by edges": ('y = Pad <mode = "edge"> (x, cut)', {}),
}
INDICES = {
    "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1]),
    "cut": np.array([0, 1, -1, 2, 0, 0, 3, -1]),
    "shape": np.array([2, 4, 2, 3, 4]),
}


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
@pytest.mark.parametrize("case", FLOAT)
def test_float_operators_are_untouched(case, opset):
    text, shapes = FLOAT[case]
    rng = np.random.default_rng(9)
    x = rng.standard_normal((2, 4, 6, 4)).astype(np.float32)
    constants = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    constants |= {n: a for n, a in INDICES.items() if f"{n})" in text or f"{n}," in text}
    graph = f"g (float[{','.join(map(str, x.shape))}] x) => (float[] y) {{ {text} }}"
    expected = run(graph, x, opset=opset, deploy=False, level="ORT_DISABLE_ALL", **constants)
    for level in LEVELS:
        np.testing.assert_array_equal(run(graph, x, opset=opset, level=level, **constants), expected)


def test_pads_of_newer_opsets():
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    cases = {
        "y = Pad (x, p, v, a)": {"p": np.array([1, 2, 0, 1]), "v": np.float32(7), "a": np.array([0, -1])},
        'y = Pad <mode = "wrap"> (x, p)': {"p": np.array([0, -1, 2, 5, 3, 1])},
    }
    for text, constants in cases.items():
        graph = f"g (float[3,4,5] x) => (float[] y) {{ {text} }}"
        expected = run(graph, x, opset=19, deploy=False, **constants)
        np.testing.assert_array_equal(run(graph, x, opset=19, **constants), expected)


@pytest.mark.parametrize("dtype", ["double", "float16", "int32", "int64", "uint32", "uint64"])
def test_matmul_of_other_types(dtype):
    numpy_type = np.dtype({"double": "float64"}.get(dtype, dtype))
    x = np.arange(12).reshape(3, 4).astype(numpy_type)
    w = (np.arange(8).reshape(4, 2) % 5).astype(numpy_type)
    graph = f"g ({dtype}[3,4] x) => ({dtype}[3,2] y) {{ y = MatMul (x, w) }}"
    np.testing.assert_array_equal(run(graph, x, w=w), x @ w)


@pytest.mark.parametrize("layer", ["Conv (x, w)", "AveragePool <kernel_shape = [2, 2]> (x)", "MatMul (x, m)"])
def test_float16_layers_equal_onnxruntime(layer):
    rng = np.random.default_rng(10)
    x = rng.standard_normal((1, 4, 6, 6)).astype(np.float16)
    constants = {"w": rng.standard_normal((3, 4, 3, 3)).astype(np.float16)} if "w" in layer else {}
    constants |= {"m": rng.standard_normal((6, 5)).astype(np.float16)} if "m" in layer else {}
    graph = f"g (float16[1,4,6,6] x) => (float16[] y) {{ y = {layer} }}"
    expected = run(graph, x, deploy=False, level="ORT_DISABLE_ALL", **constants)
    np.testing.assert_array_equal(run(graph, x, **constants), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "double", "float16"])
def test_pad_of_other_types(dtype):
    numpy_type = np.dtype({"double": "float64"}.get(dtype, dtype))
    x = np.arange(6).reshape(2, 3).astype(numpy_type)
    graph = f"g ({dtype}[2,3] x) => ({dtype}[] y) {{ y = Pad (x, p, v) }}"
    expected = np.pad(x, [(1, 0), (0, 2)], constant_values=7)
    np.testing.assert_array_equal(run(graph, x, p=np.array([1, 0, 0, 2]), v=numpy_type.type(7)), expected)


def test_int8_pad_without_a_quantizer_is_the_standard_one():
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    graph = "g (int8[2,3] x) => (int8[] y) { y = Pad (x, p, v) }"
    expected = np.pad(x, [(1, 0), (0, 2)], constant_values=-5)
    np.testing.assert_array_equal(run(graph, x, p=np.array([1, 0, 0, 2]), v=np.int8(-5)), expected)


def test_other_sessions_of_the_process_are_untouched():
    """Before, beside and after a session with the library: int8 Conv is refused, a float Conv is ONNX Runtime's."""
    rng = np.random.default_rng(11)
    x = rng.uniform(-70, 70, (1, 2, 5, 5)).astype(np.float32)
    w = integers(rng, 3, 2, 3, 3)
    deploy = """g (float[1,2,5,5] x) => (int32[] t) {
        q = AscendQuant <scale: float = 2.0, offset: float = 5.0> (x) t = Conv (q, w) }"""
    plain = "g (float[1,2,5,5] x) => (float[] y) { y = Conv (x, w) }"
    before = run(plain, x, deploy=False, w=w.astype(np.float32))
    held = session(deploy, w=w)
    with pytest.raises(Exception, match="AscendQuant"):
        session(deploy, deploy=False, w=w)
    np.testing.assert_array_equal(run(plain, x, deploy=False, w=w.astype(np.float32)), before)
    held.run(None, {"x": x})


# Where the zero lies is found by the tensor's name.

NAMED = """g (float[1,2,5,5] x) => (float[] y) {{
    q = AscendQuant <scale: float = 2.0, offset: float = {}> (x)
    t = Conv <pads = [1, 1, 1, 1]> (q, w) y = AscendDequant (t, one) }}"""


def expected_of_named(x, w, offset):
    q = np.clip(np.rint(x * 2) + offset, -128, 127) - offset
    padded = np.pad(q, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,mcij->nmhw", windows, w.astype(np.float64)).astype(np.float32)


def test_the_same_names_in_many_sessions_and_threads():
    rng = np.random.default_rng(12)
    x = rng.uniform(-70, 70, (1, 2, 5, 5)).astype(np.float32)
    w = integers(rng, 3, 2, 3, 3)
    barrier = threading.Barrier(4)

    def work(start):
        barrier.wait()
        sessions = [(o, session(NAMED.format(float(o)), w=w, one=ONE)) for o in range(start, 120, 9)]
        return [(o, s.run(None, {"x": x})[0]) for o, s in sessions]

    with ThreadPoolExecutor(4) as pool:
        for offset, y in [pair for pairs in pool.map(work, range(-128, -124)) for pair in pairs]:
            np.testing.assert_array_equal(y, expected_of_named(x, w, offset))


def test_a_name_is_forgotten_with_its_session():
    rng = np.random.default_rng(13)
    w = integers(rng, 3, 2, 3, 3)
    x = rng.uniform(-70, 70, (1, 2, 5, 5)).astype(np.float32)
    run(NAMED.format(5.0), x, w=w, one=ONE)
    raw = "g (int8[1,2,5,5] q) => (int32[] t) { t = Conv (q, w) }"
    with pytest.raises(Exception, match="does not come from an AscendQuant"):
        session(raw, w=w).run(None, {"q": x.astype(np.int8)})


@pytest.mark.parametrize("level", LEVELS)
def test_equal_quantizers_that_are_merged(level):
    rng = np.random.default_rng(14)
    x = rng.uniform(-70, 70, (1, 2, 5, 5)).astype(np.float32)
    w = integers(rng, 3, 2, 3, 3)
    text = """g (float[1,2,5,5] x) => (float[] y) {
        p = AscendQuant <scale: float = 2.0, offset: float = 9.0> (x)
        q = AscendQuant <scale: float = 2.0, offset: float = 9.0> (x)
        s = Conv <pads = [1, 1, 1, 1]> (p, w) t = Conv <pads = [1, 1, 1, 1]> (q, w)
        u = Add (s, t) y = AscendDequant (u, one) }"""
    np.testing.assert_array_equal(run(text, x, level=level, w=w, one=ONE), 2 * expected_of_named(x, w, 9))


def branches(first: str, second: str, w: np.ndarray) -> str:
    """Two branches, each with a quantizer, named ``first`` and ``second``, and weights of its own."""
    body = """{{0}} => (float[] y{0}) {{{{
            v{0} = Constant <value = int8[3,2,3,3] {{{{{1}}}}}> ()
            {{1}} = AscendQuant <scale: float = 2.0, offset: float = {{2}}> (x)
            t{0} = Conv <pads = [1, 1, 1, 1]> ({{1}}, v{0}) y{0} = AscendDequant (t{0}, one) }}}}"""
    values = ", ".join(map(str, w.ravel()))
    then = body.format("a", values).format("a ()", first, "9.0")
    other = body.format("b", values).format("b ()", second, "-9.0")
    return f"""g (float[1,2,5,5] x, bool c) => (float[] y) {{
        y = If (c) <then_branch = {then}, else_branch = {other}> }}"""


def test_branches_have_their_own_offsets():
    rng = np.random.default_rng(15)
    x = rng.uniform(-70, 70, (1, 2, 5, 5)).astype(np.float32)
    w = integers(rng, 3, 2, 3, 3)
    model = session(branches("qa", "qb", w), one=ONE)
    for taken, offset in ((True, 9), (False, -9)):
        (y,) = model.run(None, {"x": x, "c": np.array(taken)})
        np.testing.assert_array_equal(y, expected_of_named(x, w, offset))


def test_a_quantizer_outside_of_the_branch():
    rng = np.random.default_rng(16)
    x = rng.uniform(-70, 70, (1, 2, 5, 5)).astype(np.float32)
    w = integers(rng, 3, 2, 3, 3)
    text = f"""g (float[1,2,5,5] x, bool c) => (float[] y) {{
        q = AscendQuant <scale: float = 2.0, offset: float = 11.0> (x)
        y = If (c) <
            then_branch = a () => (float[] ya) {{
                v = Constant <value = int8[3,2,3,3] {{{", ".join(map(str, w.ravel()))}}}> ()
                t = Conv <pads = [1, 1, 1, 1]> (q, v) ya = AscendDequant (t, one) }},
            else_branch = b () => (float[] yb) {{ yb = Identity (x) }} > }}"""
    (y,) = session(text, one=ONE).run(None, {"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(y, expected_of_named(x, w, 11))


def test_one_name_with_two_offsets_is_refused():
    with pytest.raises(Exception, match=r"offsets -?9 and -?9 in different branches"):
        session(branches("q", "q", np.ones((3, 2, 3, 3), np.int8)), one=ONE)


def test_an_offset_hidden_behind_another_operator_is_refused():
    text = """g (float[1,2,4,4] x) => (int32[] t) {
        q = AscendQuant <scale: float = 2.0, offset: float = 9.0> (x) m = MaxPool <kernel_shape = [2, 2]> (q)
        t = Conv (m, w) }"""
    with pytest.raises(Exception, match=r"Conv node 'node_t': the int8 tensor 'm' does not come.*ort-quant lower"):
        run(text, np.ones((1, 2, 4, 4), np.float32), w=np.ones((3, 2, 1, 1), np.int8))


QUANT = "q = AscendQuant <scale: float = 2.0, offset: float = 9.0> (x)"
I8, I32 = np.int8, np.int32
REFUSED = {
    "scale": (
        "q = AscendQuant <scale: float = -1.0, offset: float = 0.0> (x) y = Cast <to = 1> (q)",
        {},
        "'scale' is -1",
    ),
    "offset": (
        "q = AscendQuant <scale: float = 1.0, offset: float = 0.5> (x) y = Cast <to = 1> (q)",
        {},
        "'offset' is 0.5",
    ),
    "type": (
        'q = AscendQuant <scale: float = 1.0, dst_type: string = "INT16"> (x) y = Cast <to = 1> (q)',
        {},
        "'dst_type' is \"INT16\"",
    ),
    "rounding": (
        'q = AscendQuant <scale: float = 1.0, round_mode: string = "Floor"> (x) y = Cast <to = 1> (q)',
        {},
        "'round_mode' is \"Floor\"",
    ),
    "half output": (
        f"{QUANT} t = Conv (q, w) y = AscendDequant <dtype: int = 1> (t, one)",
        {"w": np.ones((3, 2, 1, 1), I8), "one": ONE},
        r"'dtype' is 1, expected 0.*fake-quant",
    ),
    "channels": (
        f"{QUANT} t = Conv (q, w) y = Cast <to = 1> (t)",
        {"w": np.ones((3, 5, 1, 1), I8)},
        r"'X' has shape \[1,2,4,4\] and input 'W' \[3,5,1,1\]",
    ),
    "bias": (
        f"{QUANT} t = Conv (q, w, b) y = Cast <to = 1> (t)",
        {"w": np.ones((3, 2, 1, 1), I8), "b": np.ones(2, I32)},
        "'B' has 2 values, expected 3",
    ),
    "kernel": (
        f"{QUANT} t = Conv (q, w) y = Cast <to = 1> (t)",
        {"w": np.ones((3, 2, 5, 5), I8)},
        "covers 5 positions",
    ),
    "alpha": (
        "f = Flatten (x) q = AscendQuant <scale: float = 2.0> (f) t = Gemm <alpha = 0.5> (q, w) y = Cast <to = 1> (t)",
        {"w": np.ones((32, 2), I8)},
        "'alpha' is 0.5",
    ),
    "pad value": (
        f"{QUANT} p = Pad (q, p4, v) t = AveragePool <kernel_shape = [1, 1]> (p) y = Identity (t)",
        {"p4": np.zeros(8, np.int64), "v": np.int8(3)},
        "'constant_value' is not 0",
    ),
    "anti-quantizer": (
        f"{QUANT} y = AscendAntiQuant <scale: float = 0.5, offset: float = 4.0> (q)",
        {},
        "'offset' is 4, expected -9",
    ),
    "shift and square root": (
        f"{QUANT} t = Conv (q, w) y = AscendDequant <sqrt_mode: int = 1> (t, s)",
        {"w": np.ones((3, 2, 1, 1), I8), "s": pack_deq_scale(np.float32([1.0]), 2)},
        "sqrt_mode is set",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    text, constants, match = REFUSED[case]
    graph = f"g (float[1,2,4,4] x) => (float[] y) {{ {text} }}"
    with pytest.raises(Exception, match=match) as caught:
        run(graph, np.ones((1, 2, 4, 4), np.float32), **constants)
    assert "node 'node_" in str(caught.value)
