"""Which element-wise operators a layer takes into its epilogue, and that every one of them is exact there."""

from __future__ import annotations

import numpy as np
import pytest

HEAD = '<ir_version: 8, opset_import: ["": {opset}]>\nnet (float[N,3,H,W] x) => (float[N,M,P,Q] y) {{\n'
CONV = """
    qx = AscendQuant <scale=32.5, offset=-5.0, dst_type="INT8">(x)
    [conv] c = Conv <pads=[1,1,1,1]>(qx, w1, b1)
    v = AscendDequant <dtype=0>(c, s1)
"""


@pytest.fixture
def behind(lowered, weights, image):
    """Lower Conv(3→8) followed by the given lines, which make y from v."""

    def _behind(lines: str, opset: int = 13, **arrays):
        text = HEAD.format(opset=opset) + CONV + lines + "\n}"
        return lowered(text, {"x": image(2, 3, 7, 9)}, **weights(1, 8, 3, 3, 3), **arrays)

    return _behind


F = np.float32
CASES = {
    "relu": ("y = Relu(v)", ["relu 0"], {}),
    "relu6": ("y = Clip(v, lo, hi)", ["clip 0 0.0 6.0"], {"lo": F(0), "hi": F(6)}),
    "clip without an upper bound": ("y = Clip(v, lo)", ["clip 0 -0.5 inf"], {"lo": F(-0.5)}),
    "leaky": ("y = LeakyRelu <alpha=0.1>(v)", ["leaky_relu 0 0.1"], {}),
    "constant on the left": ("y = Sub(k, v)", ["sub 1.5 0"], {"k": F(1.5)}),
    "tiny constant": ("y = Div(v, k)", ["div 0 1e-05"], {"k": np.full((1, 1, 1, 1), 1e-5, F)}),
    "twice": ("y = Mul(v, v)", ["mul 0 0"], {}),
    "hard sigmoid": (
        "y = HardSigmoid <alpha=0.17, beta=0.4>(v)",
        ["mul 0 0.17", "add 1 0.4", "clip 2 0.0 1.0"],
        {},
    ),
    "hard swish in parts": (
        "a = Add(v, three) \n c1 = Clip(a, lo, hi) \n m = Mul(v, c1) \n y = Div(m, hi)",
        ["add 0 3.0", "clip 1 0.0 6.0", "mul 0 2", "div 3 6.0"],
        {"three": F(3), "lo": F(0), "hi": F(6)},
    ),
    "residual": ("r = Conv(x, rw) \n y = Add(v, r)", ["add 0 r0"], {"rw": np.full((8, 3, 1, 1), 0.3, F)}),
    "residual on the left": ("r = Conv(x, rw) \n y = Sub(r, v)", ["sub r0 0"], {"rw": np.full((8, 3, 1, 1), 0.3, F)}),
    "two residuals and Relu": (
        "r = Conv(x, rw) \n t = Tanh(r) \n a = Add(v, r) \n m = Mul(a, t) \n y = Relu(m)",
        ["add 0 r0", "mul 1 r1", "relu 2"],
        {"rw": np.full((8, 3, 1, 1), 0.3, F)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_absorbed(behind, name):
    lines, steps, arrays = CASES[name]
    made = behind(lines, **arrays)
    assert made.epilogue("conv") == steps
    assert made.report.layers[0].fused == tuple(
        line.split(" = ")[1].split("(")[0].split()[0]
        for line in lines.split("\n")
        if "Conv" not in line and "Tanh" not in line
    )


def test_hard_swish_operator(behind):
    made = behind("y = HardSwish(v)", opset=14)
    assert made.epilogue("conv") == ["mul 0 0.16666667", "add 1 0.5", "clip 2 0.0 1.0", "mul 0 3"]


def test_constants_per_channel(behind):
    rng = np.random.default_rng(5)
    gain, shift = (rng.normal(size=(8, 1, 1)).astype(F) for _ in range(2))
    made = behind("m = Mul(v, gain) \n a = Add(m, shift) \n y = Mul(a, gain)", gain=gain, shift=shift[None])
    assert made.epilogue("conv") == ["mul 0 c0", "add 1 c1", "mul 2 c0"]
    (constants,) = [
        v for v in made.node("conv").inputs if v is not None and v.const_value is not None and v.shape == (2, 8)
    ]
    np.testing.assert_array_equal(constants.const_value.numpy(), np.stack([gain.ravel(), shift.ravel()]))


LEFT_ALONE = {
    "the value is read elsewhere": ("r = Relu(v) \n s = Sigmoid(v) \n y = Add(r, s)", {}),
    "a sum that broadcasts": (
        "g = GlobalAveragePool(x) \n r = Conv(g, rw) \n y = Add(v, r)",
        {"rw": np.ones((8, 3, 1, 1), F)},
    ),
    "a constant of another shape": ("y = Add(v, k)", {"k": np.ones((7, 9), F)}),
    "no exact step": ("y = Sigmoid(v)", {}),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_left_to_onnx_runtime(behind, name):
    lines, arrays = LEFT_ALONE[name]
    made = behind(lines, **arrays)
    assert made.epilogue("conv") == []
    assert made.report.layers[0].fused == ()


def test_an_intermediate_graph_output_ends_the_epilogue(lowered, weights, image):
    text = HEAD.format(opset=13).replace("(float[N,M,P,Q] y)", "(float[N,M,P,Q] y, float[N,M,P,Q] r)") + CONV
    made = lowered(text + "r = Relu(v) \n y = Add(r, r) }", {"x": image(1, 3, 5, 5)}, **weights(1, 8, 3, 3, 3))
    assert made.epilogue("conv") == ["relu 0"]


def test_at_most_sixteen_steps(behind):
    """The seventeenth Add stays ONNX Runtime's."""
    lines = "a0 = Add(v, k)\n" + "\n".join(f"a{i} = Add(a{i - 1}, k)" for i in range(1, 16)) + "\ny = Add(a15, k)"
    made = behind(lines, k=F(0.1))
    assert len(made.epilogue("conv")) == 16
    assert made.operators["Add"] == 1


def test_of_two_layers_the_later_takes_the_sum(lowered, weights, image):
    """The earlier gives its float result, channels last."""
    text = (
        HEAD.format(opset=13)
        + CONV
        + """
    [second] d = Conv(qx, w2)
    u = AscendDequant(d, s2)
    t = Add(v, u)
    y = Relu(t)
    }"""
    )
    arrays = weights(1, 8, 3, 3, 3) | weights(2, 8, 3, 1, 1, bias=False)
    made = lowered(text, {"x": image(2, 3, 6, 5)}, **arrays)
    assert made.epilogue("conv") == []
    assert made.epilogue("second") == ["add r0 0", "relu 1"]
    assert made.node("conv").attributes["float_layout"].as_string() == "channels_last"
    assert made.operators == {"QuantizeLayout": 1, "QConv": 2}
