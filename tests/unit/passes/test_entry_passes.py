"""The passes that judge and normalize a model: quantized, functions, opset, order, names, bodies, weights as inputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import ModelError, UnsupportedError
from ort_quant_plugin.passes import PassContext, prepare
from ort_quant_plugin.passes.check_opset import CheckOpset
from ort_quant_plugin.passes.freeze_weights import FreezeWeights
from ort_quant_plugin.passes.infer_shapes import InferShapes
from ort_quant_plugin.passes.inline_functions import InlineFunctions
from ort_quant_plugin.passes.lift_constants import LiftConstants
from ort_quant_plugin.passes.naming import NameNodes
from ort_quant_plugin.passes.refuse_quantized import RefuseQuantized
from ort_quant_plugin.passes.remove_unused import RemoveUnused
from ort_quant_plugin.passes.report_bodies import ReportBodies
from ort_quant_plugin.passes.sort_nodes import SortNodes

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

WITH_IF = """<ir_version: 8, opset_import: ["" : 17]>
g (bool cond, float[2,3] x) => (float[2,2] y) {
   [branch] y = If (cond) <
      then_branch = t () => (float[2,2] p) { k = Constant<value = float {2.0}>() h = MatMul(x, w) p = Mul(h, k) },
      else_branch = e () => (float[2,2] q) { q = MatMul(x, w) }
   >
}"""


@pytest.mark.parametrize(
    ("domain", "op"),
    [
        ("", "QuantizeLinear"),
        ("", "DequantizeLinear"),
        ("", "DynamicQuantizeLinear"),
        ("", "QLinearConv"),
        ("", "ConvInteger"),
        ("", "MatMulInteger"),
        ("com.microsoft", "QLinearAdd"),
        ("com.microsoft", "QGemm"),
        ("com.microsoft", "MatMulNBits"),
        ("", "AscendQuant"),
        ("", "AscendDequant"),
        ("", "AscendAntiQuant"),
        ("", "AscendWeightQuant"),
        ("amct.customop", "IFMR"),
        ("amct.customop.extfp16", "Quant"),
        ("ort_quant", "Observe"),
    ],
)
def test_quantized_models_are_refused(build, domain, op):
    name = f"{domain}.{op}" if domain else op
    text = f'<ir_version: 8, opset_import: ["" : 17, "{domain or "other"}" : 1]>'
    model = build(f"{text} g (float[2] x) => (float[2] y) {{ a = Relu(x) [conv1_quant] y = {name}(a) }}")
    message = r"cannot be quantized for following quant layers are in the model \[conv1_quant\]"
    with pytest.raises(UnsupportedError, match=message) as caught:
        prepare(model)
    assert caught.value.hint
    assert caught.value.details["layers"] == ["conv1_quant"]


def test_quantized_nodes_in_bodies_are_found_and_lists_are_short(build):
    model = build(WITH_IF.replace("q = MatMul(x, w)", "q = QLinearMatMul(x, w)"))
    with pytest.raises(UnsupportedError, match=r"\[QLinearMatMul\]"):
        RefuseQuantized()(model, PassContext())
    nodes = "".join(f" [q{i}] v{i} = QuantizeLinear(x, s)" for i in range(14))
    model = build(f"{HEAD} g (float[2] x, float s) => (uint8[2] v0) {{{nodes} }}")
    with pytest.raises(UnsupportedError, match=r"q8, q9, … 4 more\]"):
        RefuseQuantized()(model, PassContext())


@pytest.mark.parametrize("op", ["Relu", "Clip", "Round", "Quick"])
def test_float_operators_are_not_taken_for_quantized(build, op):
    model = build(f"{HEAD} g (float[2] x) => (float[2] y) {{ y = {op}(x) }}")
    assert RefuseQuantized()(model, PassContext()).changes == []


def test_functions_are_inlined(build, apply, histogram):
    model = build("""<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[N,3] x) => (float[N,3] y) { a = mine.F(x)  y = mine.F(a) }
        <domain: "mine", opset_import: ["" : 17]> F (u) => (v) { r = Relu(u)  v = Neg(r) }""")
    report = apply(model, InlineFunctions())
    assert [c.where for c in report.changes] == ["mine::F"]
    assert histogram(model) == {"Relu": 2, "Neg": 2}
    assert not model.functions


def test_functions_in_a_cycle_are_refused(build):
    model = build("""<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[N,3] x) => (float[N,3] y) { y = mine.F(x) }
        <domain: "mine", opset_import: ["" : 17, "mine" : 1]> F (u) => (v) { v = mine.G(u) }
        <domain: "mine", opset_import: ["" : 17, "mine" : 1]> G (u) => (v) { v = mine.F(u) }""")
    with pytest.raises(
        ModelError, match=r"cannot be inlined: they call each other in a cycle, mine::. → mine::. → mine::"
    ):
        prepare(model)


@pytest.mark.parametrize("opset", [7, 8])
def test_old_opsets_are_converted(build, run, opset):
    rng = np.random.default_rng(1)
    model = build(
        f"""<ir_version: 3, opset_import: ["" : {opset}]>
        g (float[1,3,4,4] x, float[3] s) => (float[1,3,8,8] y) {{
           [bn] n = BatchNormalization(x, s, s, s, s)
           [up] y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(n)
        }}""",
        s=rng.random(3, dtype=np.float32) + 1,
    )
    feeds = {"x": rng.standard_normal((1, 3, 4, 4), dtype=np.float32)}
    expected = run(model, feeds)["y"]
    (report,) = (r for r in prepare(model) if r.name == "check_opset")
    assert report.changes[0].what == f"converted from opset {opset} to 11"
    assert model.opset_imports[""] == 11
    np.testing.assert_array_equal(run(model, feeds)["y"], expected)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_supported_opsets_stay(build, opset):
    model = build(f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[2] x) => (float[2] y) {{ y = Relu(x) }}')
    assert CheckOpset()(model, PassContext()).changes == []
    assert model.opset_imports[""] == opset


def test_opsets_that_cannot_be_converted_are_refused_with_the_reason(build):
    text = """<ir_version: 3, opset_import: ["" : 6]> g (float[1,3,4,4] x) => (float[1,3,8,8] y) {
        y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(x) }"""
    with pytest.raises(
        UnsupportedError, match=r"opset 6 and cannot be converted to 9 or higher: to 11: .*upsample_6_7"
    ):
        prepare(build(text))


def test_a_newer_opset_than_onnx_knows_is_refused(build):
    with pytest.raises(UnsupportedError, match="uses opset 99; expected 9 to"):
        prepare(build('<ir_version: 8, opset_import: ["" : 99]> g (float[2] x) => (float[2] y) { y = Relu(x) }'))


def test_a_missing_default_opset_is_refused(build):
    text = '<ir_version: 8, opset_import: ["ai.onnx.ml" : 1]> g (float[2] x) => (float[2] y) { [r] y = Relu(x) }'
    with pytest.raises(UnsupportedError, match=r"imports no default opset, but node 'r' \(Relu\) needs one"):
        prepare(build(text))


def test_nodes_are_sorted(build, apply):
    model = build(f"{HEAD} g (float[2] x) => (float[2] y) {{ [a] p = Relu(x) [b] y = Neg(p) }}")
    assert apply(model, SortNodes()).changes == []
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    report = SortNodes()(model, PassContext())
    assert len(report.changes) == 1
    assert [n.name for n in model.graph] == ["a", "b"]


def test_a_cycle_is_refused(build):
    model = build(f"{HEAD} g (float[2] x) => (float[2] y) {{ p = Relu(x) y = Add(p, x) }}")
    model.graph[0].replace_input_with(0, model.graph.outputs[0])
    with pytest.raises(ModelError, match="form a cycle"):
        prepare(model)


def test_names_become_unique_and_nonempty(build):
    model = build(f"""{HEAD} g (float[2] x) => (float[2] y) {{
        p = Relu(x)  [n] q = Relu(p)  [n] r = Neg(q)  [n_1] s = Neg(r)  [Abs_5] t = Abs(s)
        u = Abs(t)  y = Neg(u) }}""")
    report = NameNodes()(model, PassContext())  # ONNX Runtime refuses duplicate names, so outputs cannot be compared
    assert [n.name for n in model.graph] == ["Relu_0", "n", "n_2", "n_1", "Abs_5", "Abs_5_1", "Neg_6"]
    assert [c.where for c in report.changes] == ["Relu_0", "n_2", "Abs_5_1", "Neg_6"]
    assert NameNodes()(model, PassContext()).changes == []


def test_names_are_unique_over_bodies_too(build, apply):
    text = WITH_IF.replace("p = Mul", "[branch] p = Mul")
    model = build(text, w=np.ones((3, 2), np.float32))
    report = apply(model, NameNodes())
    names = [n.name for n in ir.traversal.RecursiveGraphIterator(model.graph)]
    assert names == ["branch", "Constant_0", "MatMul_1", "branch_1", "MatMul_0"]
    assert len(report.changes) == 4


def test_bodies_are_reported_once_an_owner(build, apply):
    model = build(WITH_IF, w=np.ones((3, 2), np.float32))
    report = apply(model, ReportBodies())
    assert [(d.where, d.reason) for d in report.declined] == [
        ("branch", "the 4 nodes in the body of this If stay as they are")
    ]


def test_bodies_stay_as_they_are(build, run):
    rng = np.random.default_rng(0)
    model = build(WITH_IF, w=rng.random((3, 2), dtype=np.float32))
    feeds = {"cond": np.array(True), "x": rng.random((2, 3), dtype=np.float32)}
    expected = run(model, feeds)["y"]
    prepare(model)
    inside = [n.op_type for body in model.graph.subgraphs() for n in body]
    assert inside == ["Constant", "MatMul", "Mul", "MatMul"]
    np.testing.assert_array_equal(run(model, feeds)["y"], expected)


def _weights_as_inputs(build, ir_version):
    return build(
        f"""<ir_version: {ir_version}, opset_import: ["" : 9]>
        g (float[N,3] x, float[2,3] w, float[2] b, float factor) => (float[N,2] y) {{
           t = Transpose(w)   h = Gemm(x, t, b)   y = Mul(h, factor)
        }}""",
        w=np.arange(6, dtype=np.float32).reshape(2, 3),
        b=np.ones(2, np.float32),
        factor=np.array(3.0, np.float32),
    )


def test_weights_listed_as_inputs_become_constants(build, apply):
    model = _weights_as_inputs(build, 6)
    report = apply(model, FreezeWeights())
    assert sorted(c.where for c in report.changes) == ["b", "w"]
    assert [d.where for d in report.declined] == ["factor"]
    assert [v.name for v in model.graph.inputs] == ["x", "factor"]


def test_an_overridable_default_stays_overridable(build, run):
    model = _weights_as_inputs(build, 6)
    feeds = {"x": np.ones((2, 3), np.float32), "factor": np.array(-2.0, np.float32)}
    expected = run(model, feeds)["y"]
    prepare(model)
    np.testing.assert_array_equal(run(model, feeds)["y"], expected)


def test_before_ir_version_4_all_initializers_are_constants(build, apply):
    model = _weights_as_inputs(build, 3)
    apply(model, FreezeWeights())
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert model.ir_version == 4


@pytest.mark.parametrize("attribute", ["value = float[2] {1.0, 2.0}", "value_floats = [1.0, 2.0]", "value_float = 1.5"])
def test_constants_become_initializers(build, apply, histogram, attribute):
    model = build(f"{HEAD} g (float[N,2] x) => (float[N,2] y) {{ c = Constant<{attribute}>() y = Mul(x, c) }}")
    report = apply(model, LiftConstants())
    assert [c.what for c in report.changes] == ["made initializer 'c'"]
    assert list(model.graph.initializers) == ["c"]
    assert histogram(model) == {"Mul": 1}


def test_a_constant_that_is_an_output_survives(build, apply, run):
    model = build(
        f"""{HEAD} g (float[2] x) => (float[2] y, float[2] c) {{
        [k] c = Constant<value = float[2] {{1, 2}}>() y = Mul(x, c) }}"""
    )
    report = apply(model, LiftConstants())
    assert [(d.where, d.reason) for d in report.declined] == [("k", "its value 'c' is a graph output")]
    prepare(model)
    np.testing.assert_array_equal(run(model, {"x": np.ones(2, np.float32)})["c"], [1, 2])


def test_outputs_fed_by_inputs_and_weights_survive(build, run):
    model = build(
        f"""{HEAD} g (float[2] x) => (float[2] y, float[2] z, float[2] w) {{
        y = Identity(x) z = Identity(w) v = Relu(x) }}""",
        w=np.array([3, 4], np.float32),
    )
    prepare(model)
    outputs = run(model, {"x": np.array([1, 2], np.float32)})
    assert {k: v.tolist() for k, v in outputs.items()} == {"y": [1, 2], "z": [3, 4], "w": [3, 4]}


def test_what_feeds_nothing_is_dropped(build, apply, histogram):
    model = build(
        f"{HEAD} g (float[2] x) => (float[2] y) {{ [dead1] a = Relu(x) [dead2] b = Add(a, c) y = Neg(x) }}",
        c=np.ones(2, np.float32),
    )
    report = apply(model, RemoveUnused())
    assert [c.where for c in report.changes] == ["dead1", "dead2", "c"]
    assert histogram(model) == {"Neg": 1}
    assert not model.graph.initializers


def test_foreign_operators_stay_even_unread(build):
    model = build(
        """<ir_version: 8, opset_import: ["" : 17, "acme" : 1]> g (float[2] x) => (float[2] y) {
        [d] a = acme.Dump(x) y = Neg(x) }"""
    )
    report = RemoveUnused()(model, PassContext())
    assert report.changes == []
    assert "'acme' may act by side effect" in report.declined[0].reason


def test_meaningless_dimensions_become_unknown(build):
    model = build(f"{HEAD} g (float[2,2,N,?] x) => (float[M] y) {{ a = Relu(x) y = Neg(a) }}")
    model.graph.inputs[0].shape = ir.Shape([-1, 3, "?", "?"])
    report = InferShapes()(model, PassContext())
    assert [d if isinstance(d, int) else d.value for d in model.graph.inputs[0].shape] == [None, 3, None, None]
    assert report.changes[0].where == "x"


def test_a_failed_inference_is_reported_and_not_fatal(build, caplog):
    model = build(f"{HEAD} g (float[2,3] x) => (float[2,3] y) {{ a = strange.Op(x) y = Relu(a) }}")
    model.graph[0].outputs[0].shape = ir.Shape([2, 3])
    report = InferShapes()(model, PassContext())
    assert "No opset import for domain strange" in report.declined[0].reason
    assert model.graph[0].outputs[0].shape == ir.Shape([2, 3])
    assert not caplog.records


def test_stale_shapes_of_the_file_are_not_believed(build, run):
    """Somebody freed the batch of the input by hand; the file still says 1 for an intermediate value."""
    model = build(
        f"""{HEAD} g (float[N,2,3] x) => (float[N,6] y) {{
        a = Relu(x)  s = Shape(a)  n = Gather<axis = 0>(s, zero)  k = Concat<axis = 0>(n, six)  y = Reshape(a, k) }}""",
        zero=np.array([0]),
        six=np.array([6]),
    )
    model.graph[0].outputs[0].shape = ir.Shape([1, 2, 3])
    prepare(model)
    assert run(model, {"x": np.zeros((4, 2, 3), np.float32)})["y"].shape == (4, 6)
