"""Passes that compute offline: constants, shape arithmetic, weights, pads, identities, Gemm, shared weights."""

from __future__ import annotations

import resource

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.passes import PassContext, prepare
from ort_quant_plugin.passes.fold_constants import MAX_GROWTH, FoldConstants
from ort_quant_plugin.passes.fold_pads import FoldPads
from ort_quant_plugin.passes.fold_reshapes import FoldReshapes
from ort_quant_plugin.passes.fold_weights import FoldWeights
from ort_quant_plugin.passes.infer_shapes import InferShapes
from ort_quant_plugin.passes.lift_constants import LiftConstants
from ort_quant_plugin.passes.normalize_gemm import NormalizeGemm
from ort_quant_plugin.passes.remove_identity import RemoveIdentity
from ort_quant_plugin.passes.remove_unused import RemoveUnused
from ort_quant_plugin.passes.unshare_weights import UnshareWeights

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
RNG = np.random.default_rng(7)
ROUNDING = 1e-6  # a handful of float32 operations in another order


def _int64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


# --- constants -----------------------------------------------------------------------------------------------------


def test_constant_chains_become_constants(build, apply, histogram):
    model = build(
        f"""{HEAD} g (float[N,4] x) => (float[N,4] y) {{
        [t] a = Transpose(w)  [r] b = Reshape(a, shape)  [m] c = Mul(b, two)  y = Mul(x, c) }}""",
        w=RNG.random((2, 2), dtype=np.float32),
        shape=_int64(4),
        two=np.array(2, np.float32),
    )
    report = apply(model, FoldConstants())
    assert [c.where for c in report.changes] == ["t", "r", "m"]
    assert histogram(model) == {"Mul": 1}
    assert list(model.graph.initializers) == ["c"], "the constant keeps the name of the value; its sources are gone"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[n] c = RandomNormal<shape = [4]>()", None),
        ("[n] c = RandomNormalLike(w)", "RandomNormalLike is not computed offline"),
        ("[n] c = Expand(one, big)", "its result would add 8.0 MiB to the model"),
    ],
)
def test_what_is_not_folded(build, body, reason):
    model = build(
        f"{HEAD} g (float[N,4] x) => (float[A,B] y) {{ {body} y = Mul(x, c) }}",
        w=np.ones(4, np.float32),
        one=np.ones(1, np.float32),
        big=_int64(8 * MAX_GROWTH // 16, 4),
    )
    InferShapes()(model, PassContext())
    report = FoldConstants()(model, PassContext())
    assert report.changes == []
    assert [d.reason for d in report.declined] == ([reason] if reason else [])


def test_a_constant_graph_output_keeps_its_node(build, apply):
    model = build(
        f"{HEAD} g (float[2] x) => (float[2] y, float[2] c) {{ [n] c = Neg(w) y = Mul(x, c) }}",
        w=np.ones(2, np.float32),
    )
    report = apply(model, FoldConstants())
    assert [d.reason for d in report.declined] == ["its output 'c' is a graph output"]


def test_a_node_the_reference_cannot_compute_is_reported(build):
    model = build(
        f"{HEAD} g (float[2] x) => (float[2] y) {{ [n] c = Reshape(w, shape) y = Mul(x, c) }}",
        w=np.ones(3, np.float32),
        shape=_int64(2),
    )
    report = FoldConstants()(model, PassContext())
    assert report.changes == []
    assert report.declined[0].where == "n"
    assert "the reference implementation of Reshape failed" in report.declined[0].reason


def test_overridable_defaults_are_not_folded(build):
    model = build(
        f"{HEAD} g (float[2] x, float[2] w) => (float[2] y) {{ c = Neg(w) y = Mul(x, c) }}", w=np.ones(2, np.float32)
    )
    assert FoldConstants()(model, PassContext()).changes == []


def test_static_dimensions_of_a_dynamic_shape_are_folded(build, apply, histogram):
    """What torch writes for F.pad by half the width: only N is free, so everything is known."""
    model = build(
        f"""{HEAD} g (float[N,3,8,6] x) => (float[N,3,8,12] y) {{
        s = Shape(x)  w = Gather<axis = 0>(s, three)  h = Div(w, two)  u = Unsqueeze(h, zero)
        z = ConstantOfShape<value = int64[1] {{0}}>(three_long)  p = Concat<axis = 0>(z, u, z, u)  y = Pad(x, p) }}""",
        three=np.array(3),
        two=np.array(2),
        zero=_int64(0),
        three_long=_int64(3),
    )
    apply(model, FoldConstants(), RemoveUnused(), free=(1, 3))
    assert histogram(model) == {"Pad": 1}
    np.testing.assert_array_equal(model.graph.initializers["p"].const_value.numpy(), [0, 0, 0, 3, 0, 0, 0, 3])


def test_free_dimensions_are_not_folded(build, apply, histogram):
    model = build(f"{HEAD} g (float[N,3] x) => (int64[2] y) {{ s = Shape(x) y = Mul(s, two) }}", two=np.array(2))
    report = apply(model, FoldConstants(), free=(1, 5))
    assert report.changes == []
    assert histogram(model) == {"Shape": 1, "Mul": 1}


@pytest.mark.parametrize(("start", "end", "folds"), [(1, 3, True), (-1, 9, True), (0, 2, False)])
def test_shape_with_start_and_end(build, apply, start, end, folds):
    model = build(f"""{HEAD} g (float[N,3,4] x) => (int64[A] y) {{
        s = Shape<start = {start}, end = {end}>(x) y = Neg(s) }}""")
    report = apply(model, FoldConstants(), free=(1, 5))
    assert bool(report.changes) == folds


# --- reshape targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("n, minus", [0, -1]),
        ("n, all", [0, 12]),
        ("n, minus, three", [0, -1, 3]),
        ("three, n", [3, -1, 4]),
    ],
)
def test_targets_with_one_free_dimension_become_constants(build, apply, histogram, target, expected):
    extra = ", four" if expected == [3, -1, 4] else ""
    model = build(
        f"""{HEAD} g (float[N,3,4] x) => (float[A,B] y) {{ s = Shape(x)  n = Gather<axis = 0>(s, zero)
        k = Concat<axis = 0>({target}{extra})  r = Reshape(x, k) y = Flatten(r) }}""",
        zero=_int64(0),
        minus=_int64(-1),
        all=_int64(12),
        three=_int64(3),
        four=_int64(4),
    )
    apply(model, FoldReshapes(), RemoveUnused(), free=(1, 5))
    assert histogram(model) == {"Reshape": 1, "Flatten": 1}
    (constant,) = model.graph.initializers.values()
    assert constant.const_value.numpy().tolist() == expected


def test_targets_with_two_free_dimensions_stay(build, apply, histogram):
    model = build(
        f"""{HEAD} g (float[N,M,4] x) => (float[A,B] y) {{ s = Shape(x)  n = Gather<axis = 0>(s, zero)
        m = Gather<axis = 0>(s, one)  k = Concat<axis = 0>(m, n, four)  r = Reshape(x, k)  y = Flatten(r) }}""",
        zero=_int64(0),
        one=_int64(1),
        four=_int64(4),
    )
    report = apply(model, FoldReshapes(), free=(2, 5))
    assert report.changes == []
    assert report.declined[0].reason == "more than one dimension of its target is computed from free dimensions"


def test_two_question_marks_are_not_one_dimension(build, run):
    """x declared ('?', '?') twice the same text, fed with two different sizes."""
    model = build(
        f"""{HEAD} g (float[N,M] x) => (float[A,B] y) {{ s = Shape(x)  h = Gather<axis = 0>(s, one)
        w = Gather<axis = 0>(s, zero)  k = Concat<axis = 0>(h, w)  y = Reshape(x, k) }}""",
        zero=_int64(0),
        one=_int64(1),
    )
    model.graph.inputs[0].shape = ir.Shape(["?", "?"])
    prepare(model)
    assert run(model, {"x": np.zeros((2, 5), np.float32)})["y"].shape == (5, 2)


def test_allowzero_targets_stay(build, apply):
    model = build(
        f"""{HEAD} g (float[N,3,4] x) => (float[A,B] y) {{ s = Shape(x)  n = Gather<axis = 0>(s, zero)
        k = Concat<axis = 0>(n, all)  y = Reshape<allowzero = 1>(x, k) }}""",
        zero=_int64(0),
        all=_int64(12),
    )
    report = apply(model, FoldReshapes(), free=(1, 5))
    assert report.changes == []
    assert "allowzero" in report.declined[0].reason


# --- weights behind layout operators -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chain", "shape"),
    [
        ("v = Transpose(w)", (4, 3)),
        ("v = Identity(w)", (3, 4)),
        ("t = Reshape(w, target) v = Transpose(t)", (2, 6)),
        ("t = Unsqueeze(w, axis) v = Squeeze(t, axis)", (3, 4)),
        ("v = Flatten(w)", (3, 4)),
    ],
)
def test_weights_behind_layout_operators(build, apply, histogram, chain, shape):
    model = build(
        f"{HEAD} g (float[N,3] x) => (float[N,4] y) {{ {chain} y = MatMul(x, v) }}",
        w=RNG.random(shape, dtype=np.float32),
        target=_int64(4, 3),
        axis=_int64(0),
    )
    report = apply(model, FoldWeights())
    assert histogram(model) == {"MatMul": 1}
    assert len(report.changes) == chain.count("=")
    assert "v" in model.graph.initializers


def test_half_precision_weights_behind_a_cast(build, apply, histogram):
    model = build(
        f"{HEAD} g (float[N,3] x) => (float[N,4] y) {{ v = Cast<to = 1>(w) y = MatMul(x, v) }}",
        w=RNG.random((3, 4)).astype(np.float16),
    )
    apply(model, FoldWeights())
    assert histogram(model) == {"MatMul": 1}
    assert model.graph.initializers["v"].dtype == ir.DataType.FLOAT


def test_activations_behind_layout_operators_stay(build, apply):
    model = build(
        f"{HEAD} g (float[3,N] x) => (float[N,4] y) {{ t = Transpose(x) y = MatMul(t, w) }}",
        w=np.ones((3, 4), np.float32),
    )
    assert apply(model, FoldWeights()).changes == []


def test_a_folded_weight_that_others_read_serves_them_too(build, apply, histogram):
    model = build(
        f"{HEAD} g (float[N,3] x) => (float[N,4] y, float[3,4] z) {{ v = Transpose(w) y = MatMul(x, v) z = Neg(v) }}",
        w=RNG.random((4, 3), dtype=np.float32),
    )
    apply(model, FoldWeights())
    assert histogram(model) == {"MatMul": 1, "Neg": 1}


# --- pads ----------------------------------------------------------------------------------------------------------

CONV_W = RNG.standard_normal((2, 3, 3, 3)).astype(np.float32)


def _pad_conv(build, pads, conv="", *, value=0.0, opset=17, mode="constant", extra="", out="float[N,2,A,B] y"):
    if opset < 11:
        numbers = ", ".join(map(str, pads))
        pad = f'[pad] p = Pad<mode = "{mode}", pads = [{numbers}], value = {value}>(x)'
        arrays = {}
    else:
        pad = f'[pad] p = Pad<mode = "{mode}">(x, pads, value)'
        arrays = {"pads": _int64(*pads), "value": np.array(value, np.float32)}
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> g (float[N,3,8,9] x) => ({out}) {{
        {pad}  [conv] y = Conv{conv}(p, w) {extra} }}"""
    return build(text, w=CONV_W, **arrays)


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize(
    ("pads", "conv", "expected"),
    [
        ((0, 0, 1, 1, 0, 0, 1, 1), "", (1, 1, 1, 1)),
        ((0, 0, 0, 1, 0, 0, 2, 3), "<pads = [1, 0, 0, 2], strides = [2, 2]>", (1, 1, 2, 5)),
        ((0, 0, 2, 0, 0, 0, 0, 0), '<auto_pad = "VALID">', (2, 0, 0, 0)),
        ((0, 0, 1, 1, 0, 0, 1, 1), '<auto_pad = "NOTSET", pads = [0, 1, 0, 1], dilations = [2, 2]>', (1, 2, 1, 2)),
    ],
)
def test_zero_padding_goes_into_the_conv(build, apply, histogram, node, opset, pads, conv, expected):
    model = _pad_conv(build, pads, conv, opset=opset)
    report = apply(model, InferShapes(), FoldPads())[-1]
    assert len(report.changes) == 1
    assert histogram(model) == {"Conv": 1}
    assert node(model, "conv").attributes["pads"].as_ints() == expected
    assert "auto_pad" not in node(model, "conv").attributes


def test_padding_by_axes(build, apply, node):
    model = build(
        """<ir_version: 8, opset_import: ["" : 18]> g (float[N,3,8,9] x) => (float[N,2,A,B] y) {
        p = Pad(x, pads, , axes)  [conv] y = Conv(p, w) }""",
        w=CONV_W,
        pads=_int64(1, 2),
        axes=_int64(-1),
    )
    apply(model, InferShapes(), FoldPads())
    assert node(model, "conv").attributes["pads"].as_ints() == (0, 1, 0, 2)


def test_padding_that_several_convs_read(build, apply, histogram):
    model = _pad_conv(
        build, (0, 0, 1, 1, 0, 0, 1, 1), extra="[conv2] z = Conv(p, w)", out="float[N,2,A,B] y, float[N,2,A,B] z"
    )
    assert len(apply(model, FoldPads()).changes) == 2
    assert histogram(model) == {"Conv": 2}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"value": 1.5}, "it pads with 1.5; only padding with 0 is folded"),
        ({"mode": "reflect"}, "its mode is 'reflect'; only constant padding is folded"),
        ({"pads": (1, 0, 0, 0, 0, 0, 0, 0)}, "it pads the batch or the channel axis"),
        ({"pads": (0, 0, -1, 0, 0, 0, 0, 0)}, "it has negative pads"),
        ({"conv": '<auto_pad = "SAME_UPPER">'}, "Conv 'conv' has auto_pad SAME_UPPER"),
        (
            {"extra": "[max] z = MaxPool<kernel_shape = [2, 2]>(p)", "out": "float[N,2,A,B] y, float[N,3,C,D] z"},
            "MaxPool 'max' reads it, which does not pad like a Conv",
        ),
        ({"out": "float[N,2,A,B] y, float[N,3,C,D] p"}, "its output 'p' is a graph output"),
    ],
)
def test_padding_that_stays(build, apply, options, reason):
    options = {"pads": (0, 0, 1, 1, 0, 0, 1, 1), **options}
    model = _pad_conv(build, **options)
    report = apply(model, FoldPads())
    assert report.changes == []
    assert [(d.where, d.reason) for d in report.declined] == [("pad", reason)]


def test_padding_of_an_average_pool_stays(build, apply):
    model = build(
        f"""{HEAD} g (float[N,3,8,8] x) => (float[N,3,A,B] y) {{
        [pad] p = Pad(x, pads)  [pool] y = AveragePool<kernel_shape = [2, 2]>(p) }}""",
        pads=_int64(0, 0, 1, 1, 0, 0, 1, 1),
    )
    report = apply(model, FoldPads())
    assert "AveragePool 'pool' reads it" in report.declined[0].reason


# --- identities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "removed"),
    [
        ("a = Relu(x) b = Identity(a) y = Neg(b)", 1),
        ("a = Relu(x) y = Identity(a)", 1),
        ("a = Identity(x) b = Identity(a) y = Neg(b)", 2),
        ("a = Relu(x) b = Dropout(a) y = Neg(b)", 1),
        ("a = Relu(x) b, m = Dropout(a, ratio, no) y = Neg(b)", 1),
        ("a = Cast<to = 1>(x) y = Neg(a)", 1),
        ("a = Pad(x, nothing) y = Neg(a)", 1),
        ("y = Identity(x)", 0),
        ("a = Cast<to = 11>(x) b = Cast<to = 1>(a) y = Neg(b)", 0),
    ],
)
def test_operators_that_do_nothing(build, apply, nodes, removed):
    model = build(
        f"{HEAD} g (float[2,3] x) => (float[2,3] y) {{ {nodes} }}",
        ratio=np.array(0.5, np.float32),
        no=np.array(False),
        nothing=_int64(0, 0, 0, 0),
    )
    reports = apply(model, InferShapes(), RemoveIdentity())
    assert len(reports[-1].changes) == removed
    assert model.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ("a = Relu(x) y = Identity(a)", "float[2] a, float[2] y"),
        ("y = Identity(w)", "float[2] y"),
        ("a = Relu(x) y = Identity(a) z = Identity(a)", "float[2] y, float[2] z"),
    ],
)
def test_identities_that_name_a_second_output_stay(build, apply, nodes, outputs):
    model = build(f"{HEAD} g (float[2] x) => ({outputs}) {{ {nodes} }}", w=np.ones(2, np.float32))
    report = apply(model, RemoveIdentity())
    assert len(report.declined) == 1
    assert "another name holds too" in report.declined[0].reason


def test_dropout_in_training_and_with_its_mask_stays(build):
    for nodes, arrays in (
        ("b = Dropout(x, ratio, yes) y = Neg(b)", {"yes": np.array(True), "ratio": np.array(0.5, np.float32)}),
        ("b, y = Dropout(x)", {}),
    ):
        kind = "bool" if "y = Dropout" in nodes else "float"
        model = build(f"{HEAD} g (float[2] x) => ({kind}[2] y) {{ {nodes} }}", **arrays)
        assert RemoveIdentity()(model, PassContext()).changes == []


# --- Gemm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("attributes", "bias", "changes"),
    [
        ("<transB = 1>", (4,), 1),
        ("<transB = 1, alpha = 0.5>", (4,), 2),
        ("<transB = 1, alpha = 0.5, beta = 3.0>", (4,), 3),
        ("<transB = 1, beta = 3.0>", (1, 4), 3),
        ("<transB = 1>", (1,), 2),
        ("<transB = 1, beta = 2.0>", (), 3),
        ("<transB = 1, beta = 2.0>", None, 1),
    ],
)
def test_gemm_is_normalized(build, apply, node, attributes, bias, changes, dtype):
    kind = {np.float32: "float", np.float16: "float16"}[dtype]
    arrays = {"w": RNG.standard_normal((4, 3)).astype(dtype)}
    if bias is not None:
        arrays["b"] = RNG.standard_normal(bias).astype(dtype)
    inputs = "x, w" if bias is None else "x, w, b"
    model = build(f"{HEAD} g ({kind}[N,3] x) => ({kind}[N,4] y) {{ [fc] y = Gemm{attributes}({inputs}) }}", **arrays)
    # float16: the product is rounded once more or less than before, one ULP is 1e-3
    report = apply(model, NormalizeGemm(), tolerance=ROUNDING if dtype is np.float32 else 3e-3)
    assert len(report.changes) == changes
    fc = node(model, "fc")
    assert not fc.attributes
    assert [tuple(v.shape) for v in fc.inputs[1:]] == [(3, 4), (4,)][: 1 if bias is None else 2]
    assert fc.inputs[1].dtype == ir.DataType.from_numpy(np.dtype(dtype))
    assert NormalizeGemm()(model, PassContext()).changes == []


def test_gemm_that_cannot_be_normalized(build):
    model = build(
        f"""{HEAD} g (float[N,3] x, float[3,4] w, float[4] b) => (float[N,4] y) {{
        [one] h = Gemm(x, w)  [two] y = Gemm<beta = 2.0>(h, v, b) }}""",
        v=np.ones((4, 4), np.float32),
    )
    report = NormalizeGemm()(model, PassContext())
    assert [(d.where, d.reason) for d in report.declined] == [
        ("one", "its weight is not a constant"),
        ("two", "beta is 2.0 and its bias is not a constant"),
    ]


def test_a_bias_a_row_of_its_own_for_every_sample_stays(build, apply):
    model = build(
        f"{HEAD} g (float[2,3] x) => (float[2,4] y) {{ y = Gemm(x, w, b) }}",
        w=np.ones((3, 4), np.float32),
        b=RNG.random((2, 4), dtype=np.float32),
    )
    assert apply(model, NormalizeGemm()).changes == []


# --- shared weights ------------------------------------------------------------------------------------------------


def test_every_layer_gets_a_weight_and_bias_of_its_own(build, apply, node):
    model = build(
        f"""{HEAD} g (float[N,3,8,8] x) => (float[N,3,A,B] y) {{
        [c1] a = Conv(x, w, b)  [c2] d = Conv(a, w, b)  [c3] y = Conv(d, w) }}""",
        w=RNG.standard_normal((3, 3, 1, 1)).astype(np.float32),
        b=RNG.standard_normal(3).astype(np.float32),
    )
    report = apply(model, UnshareWeights())
    assert [c.where for c in report.changes] == ["c2", "c2", "c3"]
    assert [v.name for n in ("c1", "c2", "c3") for v in node(model, n).inputs[1:]] == [
        "w",
        "b",
        "w_c2",
        "b_c2",
        "w_c3",
    ]
    assert UnshareWeights()(model, PassContext()).changes == []


def test_a_weight_that_is_read_elsewhere_too_is_copied(build, apply, node):
    model = build(
        f"{HEAD} g (int64[N] i) => (float[N,4] y) {{ [emb] e = Gather(w, i) [mm] y = MatMul(e, w) }}",
        w=RNG.standard_normal((4, 4)).astype(np.float32),
    )
    apply(model, UnshareWeights())
    assert node(model, "emb").inputs[0].name == "w"
    assert node(model, "mm").inputs[1].name == "w_mm"


def test_a_weight_that_is_an_output_is_copied(build, apply, node):
    model = build(
        f"{HEAD} g (float[N,2] x) => (float[N,2] y, float[2,2] w) {{ [mm] y = MatMul(x, w) }}",
        w=np.eye(2, dtype=np.float32),
    )
    apply(model, UnshareWeights())
    assert node(model, "mm").inputs[1].name == "w_mm"


# --- size ----------------------------------------------------------------------------------------------------------


def test_a_model_over_two_gigabytes_is_prepared_without_reading_its_weights(build, tmp_path, node):
    """2.4 GB of external weights in a sparse file; two layers share them, which copies the reference only."""
    side = 24_500
    with (tmp_path / "weights.bin").open("wb") as stream:
        stream.truncate(side * side * 4)
    tensor = ir.ExternalTensor(
        "weights.bin", 0, side * side * 4, ir.DataType.FLOAT, shape=ir.Shape([side, side]), name="w", base_dir=tmp_path
    )
    model = build(
        f"""{HEAD} g (float[N,{side}] x) => (float[N,{side}] y) {{
        s = Shape(x)  n = Gather<axis = 0>(s, zero)  k = Concat<axis = 0>(n, minus)
        [one] a = MatMul(x, w)  [two] b = Gemm(a, w)  y = Reshape(b, k) }}""",
        zero=_int64(0),
        minus=_int64(-1),
        w=np.zeros(1, np.float32),
    )
    model.graph.initializers["w"].const_value = tensor
    model.graph.initializers["w"].shape = ir.Shape([side, side])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepare(model)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, "KiB: nothing of the weights was read"
    copies = [node(model, name).inputs[1].const_value for name in ("one", "two")]
    assert all(isinstance(t, ir.ExternalTensor) and t.raw is None for t in copies)
    assert [t.name for t in copies] == ["w", "w_two"]
    assert [n.op_type for n in model.graph] == ["MatMul", "Gemm", "Reshape"]


def test_lift_then_fold_in_the_default_order(build, run, histogram):
    model = build(f"""{HEAD} g (float[N,2] x) => (float[N,2] y) {{
        c = Constant<value = float[2] {{1, 2}}>() d = Neg(c) y = Mul(x, d) }}""")
    LiftConstants()(model, PassContext())
    prepare(model)
    assert histogram(model) == {"Mul": 1}
    np.testing.assert_array_equal(run(model, {"x": np.ones((1, 2), np.float32)})["y"], [[-1, -2]])
