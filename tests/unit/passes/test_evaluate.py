"""What is computed offline is what ONNX Runtime computes; what is followed through partly known shapes is true."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ort_quant_plugin.passes.evaluate import FOLDABLE, evaluate
from ort_quant_plugin.passes.partial import Follower

RNG = np.random.default_rng(5)
F = RNG.standard_normal((2, 3, 4)).astype(np.float32)
G = RNG.uniform(0.5, 2, (3, 4)).astype(np.float32)
K = np.array([[7, -7, 3], [-3, 9, -9]], np.int64)
J = np.array([2, -2, 2], np.int64)
B = np.array([[True, False, True], [False, False, True]])


def _i(*values):
    return np.array(values, np.int64)


# One ULP of float32 (6e-8) for functions whose last bit differs between libm and ONNX Runtime; 0 for all others.
ULP = 3e-7
CASES = {
    "Concat": [({"axis": 1}, F, F)],
    "DepthToSpace": [({"blocksize": 2}, RNG.random((1, 8, 2, 3), dtype=np.float32))],
    "Expand": [({}, G, _i(2, 3, 4))],
    "Flatten": [({"axis": 2}, F)],
    "Gather": [({"axis": 1}, F, _i(0, -1)), ({"axis": 0}, J, np.array(1))],
    "GatherElements": [({"axis": 1}, K, K * 0)],
    "GatherND": [({}, F, np.array([[0, 1], [1, 2]]))],
    "Identity": [({}, F)],
    "Pad": [({}, G, _i(1, 0, 0, 2))],
    "Reshape": [({}, F, _i(0, -1)), ({}, F, _i(4, 3, 2))],
    "ScatterElements": [({"axis": 1}, K, K * 0, K)],
    "ScatterND": [({}, G, np.array([[0], [2]]), G[:2])],
    "Slice": [({}, F, _i(-1), _i(-(2**62)), _i(2), _i(-2)), ({}, F, _i(1), _i(2**62), _i(1))],
    "SpaceToDepth": [({"blocksize": 2}, RNG.random((1, 2, 4, 6), dtype=np.float32))],
    "Split": [({"axis": 2}, F, _i(1, 3))],
    "Squeeze": [({}, F[:1], _i(0))],
    "Tile": [({}, G, _i(2, 1))],
    "Transpose": [({"perm": [2, 0, 1]}, F), ({}, F)],
    "Unsqueeze": [({}, F, _i(0, -1))],
    "Where": [({}, B, K, J)],
    "Abs": [({}, F), ({}, K)],
    "Add": [({}, F, G), ({}, K, J)],
    "And": [({}, B, B[:1])],
    "Cast": [({"to": 7}, F * 3), ({"to": 1}, K), ({"to": 10}, F), ({"to": 9}, F), ({"to": 6}, K)],
    "CastLike": [({}, F * 3, K)],
    "Ceil": [({}, F * 3)],
    "Clip": [({}, F, np.array(-0.5, np.float32), np.array(0.5, np.float32))],
    "Cos": [({}, F)],
    "Div": [({}, F, G), ({}, K, J)],
    "Equal": [({}, K, J), ({}, F, F)],
    "Erf": [({}, F)],
    "Exp": [({}, F)],
    "Floor": [({}, F * 3)],
    "Greater": [({}, F, G)],
    "GreaterOrEqual": [({}, K, J)],
    "Less": [({}, F, G)],
    "LessOrEqual": [({}, K, J)],
    "Log": [({}, G)],
    "Max": [({}, F, G), ({}, K, J)],
    "Min": [({}, F, G), ({}, K, J)],
    "Mod": [({}, K, J), ({"fmod": 1}, K, J), ({"fmod": 1}, F, G)],
    "Mul": [({}, F, G), ({}, K, J)],
    "Neg": [({}, F), ({}, K)],
    "Not": [({}, B)],
    "Or": [({}, B, B[:1])],
    "Pow": [({}, G, G), ({}, F, np.array(2.0, np.float32)), ({}, np.abs(K), _i(2))],
    "Reciprocal": [({}, G)],
    "Relu": [({}, F)],
    "Round": [({}, np.array([0.5, 1.5, -0.5, -2.5, 2.4], np.float32))],
    "Sigmoid": [({}, F)],
    "Sign": [({}, F), ({}, K)],
    "Sin": [({}, F)],
    "Sqrt": [({}, G)],
    "Sub": [({}, F, G), ({}, K, J)],
    "Tanh": [({}, F)],
    "Xor": [({}, B, B[:1])],
    "ConstantOfShape": [({}, _i(2, 3))],
    "CumSum": [({}, K.astype(np.float32), np.array(1))],
    "MatMul": [({}, F, G.T)],
    "Range": [({}, np.array(1), np.array(9), np.array(3))],
    "ReduceMax": [({"axes": [1]}, F)],
    "ReduceMean": [({"axes": [1], "keepdims": 0}, F)],
    "ReduceMin": [({"axes": [1]}, F)],
    "ReduceProd": [({"axes": [0]}, K)],
    "ReduceSum": [({}, F, _i(1))],
    "Shape": [({}, F), ({"start": 1}, F)],
    "Size": [({}, F)],
}
INEXACT = {"Cos", "Erf", "Exp", "Log", "MatMul", "Pow", "ReduceMean", "ReduceSum", "Sigmoid", "Sin", "Sqrt", "Tanh"}


def test_every_foldable_operator_has_a_case():
    assert set(CASES) == set(FOLDABLE)


@pytest.mark.parametrize(("op", "case"), [(op, i) for op, cases in CASES.items() for i in range(len(cases))])
def test_offline_results_are_those_of_onnx_runtime(op, case, run):
    attributes, *arrays = CASES[op][case]
    values = [
        ir.Value(name=f"i{i}", shape=ir.Shape(a.shape), type=ir.TensorType(ir.DataType.from_numpy(a.dtype)))
        for i, a in enumerate(arrays)
    ]
    outputs = 2 if op == "Split" else 1
    node = ir.node(op, values, attributes, num_outputs=outputs, name="n")
    for i, value in enumerate(node.outputs):
        value.name = f"o{i}"
    results = evaluate(node, arrays, 17)
    for value, array in zip(node.outputs, results, strict=True):
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph = ir.Graph(values, node.outputs, nodes=[node], opset_imports={"": 17}, name="g")
    expected = run(ir.Model(graph, ir_version=8), {f"i{i}": a for i, a in enumerate(arrays)})
    for actual, reference in zip(results, expected.values(), strict=True):
        assert actual.dtype == reference.dtype
        assert actual.shape == reference.shape
        np.testing.assert_allclose(actual, reference, rtol=0, atol=ULP * np.abs(F).max() * 4 if op in INEXACT else 0)


STEPS = st.lists(
    st.sampled_from(
        [
            "Gather(v, i)",
            "Slice(v, one, big)",
            "Slice(v, zero, two)",
            "Concat<axis = 0>(v, two)",
            "Concat<axis = 0>(two, v, v)",
            "Mul(v, two)",
            "Add(v, v)",
            "Sub(big_vector, v)",
            "Div(v, two)",
            "Cast<to = 6>(Cast)",
            "Reshape(v, minus)",
            "Identity(v)",
        ]
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, size=st.integers(1, 9))
def test_known_elements_are_true_for_every_batch(build, run, steps, size):
    """Random shape arithmetic: what the follower claims to know is what ONNX Runtime computes, whatever N is."""
    lines, value = ["v0 = Shape(x)"], "v0"
    for number, step in enumerate(steps, start=1):
        if "(Cast)" in step:
            lines.append(f"c{number} = Cast<to = 6>({value}) v{number} = Cast<to = 7>(c{number})")
        elif "big_vector" in step:
            lines.append(f"v{number} = Sub(hundred, {value})")
        else:
            lines.append(f"v{number} = " + step.replace("(v", f"({value}").replace(" v", f" {value}"))
        value = f"v{number}"
    model = build(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,5] x) => (int64[A] y) { '
        + " ".join(lines)
        + f" y = Neg({value}) }}",
        i=_i(0, -1),
        zero=_i(0),
        one=_i(1),
        two=_i(2),
        big=_i(2**62),
        minus=_i(-1),
        hundred=np.array(100),
    )
    follower = Follower(model)
    try:
        for node in model.graph:
            follower.visit(node)
    except ValueError:
        assume(False)  # the steps make no valid model: an element of an empty vector
    known = follower[model.graph.outputs[0]]
    assert known is not None
    actual = run(model, {"x": np.zeros((size, 3, 5), np.float32)})["y"]
    assert known.values.shape == actual.shape
    for claim, symbol, truth in zip(known.values, known.symbols, actual, strict=True):
        assert symbol is not None or claim == truth


def test_unknown_elements_are_not_claimed(build):
    model = build(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (int64[2] y) { s = Shape(x) y = Add(s, one) }',
        one=_i(1),
    )
    follower = Follower(model)
    for node in model.graph:
        follower.visit(node)
    shape, total = follower[model.graph[0].outputs[0]], follower[model.graph[1].outputs[0]]
    assert shape.symbols.tolist() == ["N", None]
    assert total.symbols.tolist() == ["", None]
    assert total.values[1] == 4
    assert not total.complete


def test_evaluation_failures_are_value_errors():
    node = ir.node("Add", [ir.Value(name="a"), ir.Value(name="b")])
    node.outputs[0].name = "c"
    with pytest.raises(ValueError, match="Issues with types"):
        evaluate(node, [np.zeros(2), np.zeros(3)], 17)
