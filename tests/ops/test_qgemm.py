"""QGemm through ONNX Runtime equals the numpy oracle, and refuses what it cannot do."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ort_quant_plugin.ops import reference_int8 as oracle

F32 = np.float32


def layer(shape, columns, seed=0):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, shape, np.uint8)
    w = random.integers(-128, 128, (shape[-1], columns), np.int8)
    deq = random.uniform(1e-4, 3e-4, columns).astype(F32)
    bias = random.integers(-9000, 9000, columns).astype(np.int32)
    return x, w, deq, bias


SHAPES = [((1, 16), 8), ((5, 64), 10), ((33, 70), 19), ((7,), 3), ((2, 3, 4, 9), 33), ((1, 1280), 100), ((300, 1), 1)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shape", "columns"), SHAPES)
def test_product(run_node, isa, shape, columns, threads):
    x, w, deq, bias = layer(shape, columns)
    y, y_float, y2 = run_node(
        "QGemm",
        [x, w, deq, bias],
        ("y", "y_float", "y2"),
        threads=threads,
        x_offset=-7,
        epilogue="relu 0",
        y_scale=40.0,
        y_offset=-128,
        y2_scale=9.0,
    )
    want = oracle.run_epilogue(oracle.q_gemm(x, w, deq, bias, x_offset=-7), "relu 0")
    np.testing.assert_array_equal(y_float, want)
    np.testing.assert_array_equal(y, oracle.quantize(want, 40.0, -128))
    np.testing.assert_array_equal(y2, oracle.quantize(want, 9.0))


def test_equals_onnx_runtimes_matmul(run_node):
    x, w, _, _ = layer((3, 5, 40), 12)
    (theirs,) = run_node(
        "MatMul",
        [x.astype(F32) - F32(128), w.astype(F32)],
        ("y_float",),
        domain="",
        types={"y_float": ir.DataType.FLOAT},
    )
    (ours,) = run_node("QGemm", [x, w, np.ones(1, F32)], ("y_float",))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("epilogue", ["add 0 r0;relu 1", "mul 0 c0;add 1 c1;sub 2 r1", "leaky_relu 0 0.1"])
def test_epilogues(run_node, isa, epilogue):
    x, w, deq, bias = layer((2, 9, 24), 18)
    random = np.random.default_rng(2)
    residuals = [random.normal(0, 2, (2, 9, 18)).astype(F32) for _ in range(2)]
    constants = random.uniform(0.5, 2, (2, 18)).astype(F32)
    (y,) = run_node("QGemm", [x, w, deq, bias, constants, *residuals], epilogue=epilogue, y_scale=30.0)
    want = oracle.run_epilogue(oracle.q_gemm(x, w, deq, bias), epilogue, constants, *residuals)
    np.testing.assert_array_equal(y, oracle.quantize(want, 30.0))


def test_extremes(run_node, isa):
    for code, weight, offset in [(0, -128, 127), (255, -128, -128), (0, 127, 127)]:
        x = np.full((3, 70000), code, np.uint8)
        w = np.full((70000, 2), weight, np.int8)
        bias = np.array([2**31 - 1, -(2**31)], np.int32)
        (y,) = run_node("QGemm", [x, w, np.ones(1, F32), bias], ("y_float",), x_offset=offset)
        np.testing.assert_array_equal(y, oracle.q_gemm(x, w, [1.0], bias, x_offset=offset))


def test_float_layout_means_nothing_without_planes(run_node):
    layer_of = layer((2, 3, 16), 5)
    (y,) = run_node("QGemm", layer_of, ("y_float",), float_layout="channels_first")
    np.testing.assert_array_equal(y, oracle.q_gemm(*layer_of))


@pytest.mark.parametrize("shape", [(0, 16), (2, 0, 16)])
def test_no_rows(run_node, shape):
    (y,) = run_node("QGemm", layer(shape, 5), ("y_float",))
    assert y.shape == (*shape[:-1], 5)


X, W, DEQ, BIAS = layer((2, 16), 5)
REFUSED = [
    ([X, np.zeros((16, 5, 1), np.int8), DEQ], {}, "input 'w' has shape [16,5,1], expected [K, N]"),
    ([X, np.zeros((0, 5), np.int8), DEQ], {}, "input 'w' has shape [0,5], expected [K, N]"),
    ([X[:, :7], W, DEQ], {}, "input 'x' has shape [2,7], expected [..., 16], the first size of input 'w' [16,5]"),
    ([np.uint8(3), W, DEQ], {}, "input 'x' has shape [], expected [..., 16]"),
    ([X, W, DEQ[:2]], {}, "input 'deq' has shape [2], expected [1] or [5]"),
    ([X, W, DEQ, BIAS[:4]], {}, "input 'bias' has shape [4], expected [5]"),
    ([X, W, DEQ], {"y_scale": -1.0}, "attribute 'y_scale' is -1, expected a finite number > 0"),
    ([X, W, DEQ], {"constant": {2}}, "input 'w' (tensor 'i1') is not a constant, expected an initializer"),
]


@pytest.mark.parametrize(("inputs", "attributes", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refusals(run_node, inputs, attributes, message):
    with pytest.raises(Exception, match="QGemm node 'n'") as caught:
        run_node("QGemm", inputs, **{"y_scale": 1.0, **attributes})
    assert message in str(caught.value)


def test_a_node_without_outputs_is_refused(node_model):
    from ort_quant_plugin.ops.library import onnxruntime_module, session_options

    model, _ = node_model("QGemm", [X, W, DEQ], ())
    model = ir.from_proto(onnx.load_model_from_string(model))
    model.graph.outputs.extend(model.graph.inputs)  # a graph needs an output
    with pytest.raises(Exception, match=r"outputs 'y', 'y_float' and 'y2' are all left out|has no output"):
        onnxruntime_module().InferenceSession(
            ir.to_proto(model).SerializeToString(),
            session_options(log_severity_level=4),
            providers=["CPUExecutionProvider"],
        )
