"""BatchNormalization, Mul and Add folded into each other and into convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.passes import PassContext
from ort_quant_plugin.passes.affine import scaled_weight
from ort_quant_plugin.passes.fuse_bn import FuseBnAdd, FuseBnMul
from ort_quant_plugin.passes.fuse_conv import FuseConvBn, FuseConvScale
from ort_quant_plugin.passes.rewrite import original_names

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
RNG = np.random.default_rng(11)
# A fused layer sums the same products in another rounding: some ULP of the largest term, cancellation included.
TOLERANCE = {np.float32: 2e-6, np.float16: 4e-3}
KIND = {np.float32: "float", np.float16: "float16"}


def _bn(channels, dtype=np.float32, **changes):
    parameters = {
        "gamma": RNG.uniform(-2, 2, channels),
        "beta": RNG.standard_normal(channels),
        "mean": RNG.standard_normal(channels),
        "var": RNG.uniform(0.1, 3, channels),
    }
    return {name: np.asarray(value).astype(dtype) for name, value in {**parameters, **changes}.items()}


BN = "[bn] n = BatchNormalization<epsilon = 0.01>(c, gamma, beta, mean, var)"


def _conv(build, *, op="Conv", group=1, bias=True, dtype=np.float32, tail=BN, out="n", rank=4, bn=None, **arrays):
    """4 -> 6 channels, kernel 3 (or 2 for ConvTranspose), then ``tail`` on value ``c``."""
    kernel = (2 if op == "ConvTranspose" else 3,) * (rank - 2)
    shape = (4, 6 // group, *kernel) if op == "ConvTranspose" else (6, 4 // group, *kernel)
    arrays["w"] = RNG.standard_normal(shape).astype(dtype)
    if bias:
        arrays["b"] = RNG.standard_normal(6).astype(dtype)
    if "gamma" in tail:
        arrays.update(bn or _bn(6, dtype))
    kind, spatial = KIND[dtype], ",7" * (rank - 2)
    free = ",".join("ABC"[: rank - 2])
    outputs = ", ".join(f"{kind}[N,6,{free}] {name}" for name in out.split())
    operands = "x, w, b" if bias else "x, w"
    return build(
        f"{HEAD} g ({kind}[N,4{spatial}] x) => ({outputs}) {{ [conv] c = {op}<group = {group}>({operands}) {tail} }}",
        **arrays,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_conv_bn(build, apply, histogram, node, op, group, bias, dtype):
    model = _conv(build, op=op, group=group, bias=bias, dtype=dtype)
    report = apply(model, FuseConvBn(), tolerance=TOLERANCE[dtype])
    assert [(c.where, c.what) for c in report.changes] == [("conv", "took in BatchNormalization 'bn'")]
    assert histogram(model) == {op: 1}
    assert original_names(node(model, "conv")) == ["conv", "bn"]
    assert [v.name for v in node(model, "conv").inputs] == ["x", "w", "b" if bias else "conv.bias"]
    assert all(v.const_value.dtype.numpy() == dtype for v in node(model, "conv").inputs[1:])
    assert set(model.graph.initializers) == {"w", "b" if bias else "conv.bias"}, "the parameters of the BN are gone"


@pytest.mark.parametrize("rank", [3, 5])
def test_conv_bn_of_other_ranks(build, apply, histogram, rank):
    model = _conv(build, rank=rank)
    apply(model, FuseConvBn(), tolerance=TOLERANCE[np.float32])
    assert histogram(model) == {"Conv": 1}


def test_conv_bn_follows_the_formula_rounded_once(build, node):
    """W' = W/√(σ²+ε)·γ and b' = (b−μ)/√(σ²+ε)·γ + β in float64, then to float32."""
    model = _conv(build)
    p = {k: v.const_value.numpy().astype(np.float64) for k, v in model.graph.initializers.items()}
    FuseConvBn()(model, PassContext())
    conv = node(model, "conv")
    epsilon = float(np.float32(0.01))
    root = np.sqrt(p["var"] + epsilon)
    weight = (p["w"] / root.reshape(-1, 1, 1, 1) * p["gamma"].reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = ((p["b"] - p["mean"]) / root * p["gamma"] + p["beta"]).astype(np.float32)
    np.testing.assert_array_almost_equal_nulp(conv.inputs[1].const_value.numpy(), weight, nulp=1)
    np.testing.assert_allclose(conv.inputs[2].const_value.numpy(), bias, rtol=0, atol=2e-7 * np.abs(bias).max())


@pytest.mark.parametrize(
    ("tail", "out", "context", "reason"),
    [
        (BN, "n", PassContext(do_fusion=False), "do_fusion is false"),
        (BN, "n", PassContext(skip_fusion_layers=frozenset({"conv"})), "'conv' is in skip_fusion_layers"),
        (BN, "n", PassContext(skip_fusion_layers=frozenset({"bn"})), "'bn' is in skip_fusion_layers"),
        (BN, "n c", PassContext(), "'c' is a graph output (behind Conv 'conv')"),
        (BN + " m = Relu(c)", "n m", PassContext(), "2 nodes read 'c' (behind Conv 'conv')"),
    ],
)
def test_conv_bn_declined(build, apply, histogram, tail, out, context, reason):
    model = _conv(build, tail=tail, out=out)
    before = histogram(model)
    report = apply(model, FuseConvBn(), context=context)
    assert report.changes == []
    assert [(d.where, d.reason) for d in report.declined] == [("bn", reason)]
    assert histogram(model) == before


@pytest.mark.parametrize(
    "parameters",
    [
        {"gamma": np.full(6, np.inf)},
        {"mean": np.full(6, np.nan)},
        {"var": np.full(6, -1.0)},
        {"gamma": np.full(6, 3e38)},
    ],
)
def test_conv_bn_that_would_overflow_is_declined(build, parameters):
    model = _conv(build, bn=_bn(6, **parameters))
    report = FuseConvBn()(model, PassContext())
    assert report.changes == []
    assert "the fused weight or bias would hold inf or NaN" in report.declined[0].reason


def test_conv_bn_in_training_mode_is_declined(build):
    tail = "n, mm, vv = BatchNormalization<training_mode = 1>(c, gamma, beta, mean, var)"
    report = FuseConvBn()(_conv(build, tail=tail), PassContext())
    assert "training mode" in report.declined[0].reason


@pytest.mark.parametrize(
    ("signature", "operands", "reason"),
    [
        ("float[6,4,3,3] w", "x, w", "the weight of the layer is not a constant"),
        ("float[6] b", "x, v, b", "the bias of the layer is not a constant"),
        ("float[6] var", "x, v", "its parameters are not constant"),
    ],
)
def test_conv_bn_with_variable_operands_is_declined(build, signature, operands, reason):
    parameters = _bn(6)
    if "var" in signature:
        del parameters["var"]
    model = build(
        f"""{HEAD} g (float[N,4,7,7] x, {signature}) => (float[N,6,5,5] n) {{ [conv] c = Conv({operands}) {BN} }}""",
        v=np.ones((6, 4, 3, 3), np.float32),
        **parameters,
    )
    report = FuseConvBn()(model, PassContext())
    assert report.changes == []
    assert report.declined[0].reason == f"{reason} (behind Conv 'conv')"


SCALE = RNG.uniform(0.5, 2, (6, 1, 1))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize(
    ("tail", "fused"),
    [
        ("n = Mul(c, k)", 1),
        ("n = Mul(k, c)", 1),
        ("n = Add(c, k)", 1),
        ("n = Sub(c, k)", 1),
        ("n = Sub(k, c)", 1),
        ("n = Div(c, k)", 1),
        ("m = Mul(c, k) n = Add(m, k)", 2),
        ("m = Mul(c, one) n = Add(m, one)", 2),
        ("m = Add(c, wide) n = Mul(m, scalar)", 2),
        ("m = Sub(c, k) l = Div(m, k) j = Mul(l, wide) n = Add(j, one)", 4),
    ],
)
def test_constant_scales_behind_a_convolution(build, apply, histogram, node, op, tail, fused):
    model = _conv(
        build,
        op=op,
        group=2,
        tail=tail,
        k=SCALE.astype(np.float32),
        wide=SCALE.reshape(1, 6, 1, 1).astype(np.float32),
        one=np.array([0.7], np.float32),
        scalar=np.array(-1.3, np.float32),
    )
    report = apply(model, FuseConvScale(), tolerance=TOLERANCE[np.float32])
    assert len(report.changes) == fused
    assert histogram(model) == {op: 1}
    assert node(model, "conv").outputs[0].name == "n"


def test_an_added_bias_leaves_the_weight_bit_for_bit(build, node):
    model = _conv(build, bias=False, tail="n = Add(c, k)", k=SCALE.astype(np.float32))
    weight = model.graph.initializers["w"].const_value
    FuseConvScale()(model, PassContext())
    assert model.graph.initializers["w"].const_value is weight
    np.testing.assert_array_equal(
        node(model, "conv").inputs[2].const_value.numpy(), SCALE.reshape(6).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("tail", "out", "reason"),
    [
        ("[m] n = Mul(c, pixels)", "n", "its constant has shape [5, 5], which is not one number per channel"),
        ("[m] n = Add(c, five)", "n", "its constant has 5 dimensions, its input 4"),
        ("[m] n = Div(k, c)", "n", "it divides a constant by the layer's output"),
        ("[m] n = Mul(c, c)", "n", None),
        ("m = Relu(c) n = Mul(c, k)", "n m", None),
        ("p = Sigmoid(x) q = Slice(p, zero, six, axis) n = Add(c, r) r = Identity(c)", "n", None),
    ],
)
def test_scales_that_stay(build, tail, out, reason):
    model = _conv(
        build,
        tail=tail,
        out=out,
        k=SCALE.astype(np.float32),
        pixels=np.ones((5, 5), np.float32),
        five=np.ones((1, 1, 1, 1, 1), np.float32),
    )
    report = FuseConvScale()(model, PassContext())
    assert report.changes == []
    expected = [] if reason is None else [("m", f"{reason} (behind Conv 'conv')")]
    assert [(d.where, d.reason) for d in report.declined] == expected


def test_scales_stay_when_fusion_is_off(build):
    model = _conv(build, tail="[m] n = Mul(c, k)", k=SCALE.astype(np.float32))
    report = FuseConvScale()(model, PassContext(skip_fusion_layers=frozenset({"conv"})))
    assert [(d.where, d.reason) for d in report.declined] == [("m", "'conv' is in skip_fusion_layers")]


def test_a_shared_weight_is_not_changed_for_the_other_layer(build, apply, node):
    model = build(
        f"""{HEAD} g (float[N,4,7,7] x) => (float[N,6,5,5] n, float[N,6,5,5] d) {{
        [conv] c = Conv(x, w)  {BN}  [other] d = Conv(x, w) }}""",
        w=RNG.standard_normal((6, 4, 3, 3)).astype(np.float32),
        **_bn(6),
    )
    apply(model, FuseConvBn(), tolerance=TOLERANCE[np.float32])
    assert node(model, "other").inputs[1].name == "w"
    assert node(model, "conv").inputs[1].name == "w_conv"


@pytest.mark.parametrize(
    ("tail", "graph_pass", "left"),
    [
        ("n = Mul(c, k)", FuseBnMul(), {"BatchNormalization": 1}),
        ("n = Div(c, k)", FuseBnMul(), {"BatchNormalization": 1}),
        ("m = Mul(c, k) n = Mul(scalar, m)", FuseBnMul(), {"BatchNormalization": 1}),
        ("n = Add(k, c)", FuseBnAdd(), {"BatchNormalization": 1}),
        ("n = Sub(c, k)", FuseBnAdd(), {"BatchNormalization": 1}),
        ("n = Sub(k, c)", FuseBnAdd(), {"BatchNormalization": 1}),
        ("n = Add(c, k)", FuseBnMul(), {"BatchNormalization": 1, "Add": 1}),
        ("n = Mul(c, x)", FuseBnMul(), {"BatchNormalization": 1, "Mul": 1}),
    ],
)
def test_bn_mul_and_bn_add(build, apply, histogram, tail, graph_pass, left):
    model = build(
        f"""{HEAD} g (float[N,6,5,5] x) => (float[N,6,5,5] n) {{
        [bn] c = BatchNormalization(x, gamma, beta, mean, var) {tail} }}""",
        k=SCALE.astype(np.float32),
        scalar=np.array(-1.3, np.float32),
        **_bn(6),
    )
    report = apply(model, graph_pass, tolerance=TOLERANCE[np.float32])
    assert histogram(model) == left
    assert len(report.changes) == (tail.count("=") if len(left) == 1 else 0)
    assert model.graph.outputs[0].name == "n"


def test_bn_parameters_that_others_read_stay(build, apply):
    """Exporters share vectors of ones and zeros between BatchNormalizations."""
    model = build(
        f"""{HEAD} g (float[N,6,5,5] x) => (float[N,6,5,5] n, float[N,6,5,5] o) {{
        [bn] c = BatchNormalization(x, gamma, beta, mean, var)  n = Mul(c, k)
        [bn2] o = BatchNormalization(x, gamma, beta, mean, var) }}""",
        k=SCALE.astype(np.float32),
        **_bn(6),
    )
    assert len(apply(model, FuseBnMul(), tolerance=TOLERANCE[np.float32]).changes) == 1


@pytest.mark.parametrize(("bn", "reason"), [({"gamma": np.full(6, 3e38)}, "inf or NaN")])
def test_bn_mul_that_would_overflow_is_declined(build, bn, reason):
    model = build(
        f"""{HEAD} g (float[N,6,5,5] x) => (float[N,6,5,5] n) {{
        c = BatchNormalization(x, gamma, beta, mean, var) [m] n = Mul(c, k) }}""",
        k=np.full((6, 1, 1), 10, np.float32),
        **_bn(6, **bn),
    )
    report = FuseBnMul()(model, PassContext())
    assert report.changes == []
    assert reason in report.declined[0].reason


def test_bn_of_unknown_rank_takes_in_nothing(build):
    model = build(
        f"""{HEAD} g (float[N,6,5,5] x) => (float[N,6,5,5] n) {{
        c = BatchNormalization(x, gamma, beta, mean, var) [m] n = Mul(c, k) }}""",
        k=SCALE.astype(np.float32),
        **_bn(6),
    )
    model.graph.inputs[0].shape = None
    report = FuseBnMul()(model, PassContext())
    assert "the rank of its input is not known" in report.declined[0].reason


@pytest.mark.parametrize("group", [1, 2, 4])
def test_scaled_weight_of_a_transposed_convolution_by_loops(group):
    weight = RNG.standard_normal((8, 3, 2, 2)).astype(np.float32)
    scale = RNG.standard_normal(3 * group)
    expected = weight.astype(np.float64)
    for row in range(8):
        for column in range(3):
            expected[row, column] *= scale[row // (8 // group) * 3 + column]
    actual = scaled_weight(weight, scale, transposed=True, group=group)
    np.testing.assert_array_equal(actual, expected.astype(np.float32))
