"""Order, checks and rounds of the pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from ort_quant_plugin.errors import ModelError, PluginError
from ort_quant_plugin.passes import BUILTIN_PASSES, PassContext, Phase, Pipeline, default_pipeline, prepare

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3] x) => (float[N,3] y) {
   [first] a = Relu(x)
   [second] y = Neg(a)
}"""


@pytest.fixture
def pipeline(make_pass):
    """A pipeline of passes ``a``, ``b``, ``c`` that do nothing."""
    made = Pipeline()
    for name in "abc":
        made.add(make_pass(name))
    return made


def test_order_of_insertion_is_the_order_without_constraints(pipeline):
    assert pipeline.names() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("after", "before", "expected"),
    [
        ((), ("a",), ["x", "a", "b", "c"]),
        (("a",), ("b",), ["a", "x", "b", "c"]),
        (("b",), (), ["a", "b", "c", "x"]),
        (("a", "c"), (), ["a", "b", "c", "x"]),
    ],
)
def test_after_and_before_bend_it(pipeline, make_pass, after, before, expected):
    pipeline.add(make_pass("x"), after=after, before=before)
    assert pipeline.names() == expected


def test_phases_come_before_constraints(pipeline, make_pass):
    pipeline.add(make_pass("fuse", phase=Phase.FUSE), after=("c",))
    pipeline.add(make_pass("late", phase=Phase.PREPARE), before=("fuse",))
    assert pipeline.names() == ["a", "b", "c", "late", "fuse"]


def test_a_cycle_is_printed(pipeline, make_pass):
    pipeline.add(make_pass("x"), after=("c",), before=("y",))
    pipeline.add(make_pass("y"), before=("x",))
    with pytest.raises(PluginError, match=r"is a cycle: (x → y → x|y → x → y)\."):
        pipeline.names()


def test_an_unknown_neighbour_is_named(pipeline, make_pass):
    pipeline.add(make_pass("x"), after=("nobody",))
    with pytest.raises(PluginError, match=r"'x' wants to run after 'nobody'.*a, b, c"):
        pipeline.names()


def test_a_constraint_against_the_phases_is_refused(pipeline, make_pass):
    pipeline.add(make_pass("fuse", phase=Phase.FUSE), before=("a",))
    with pytest.raises(PluginError, match="'fuse' of phase FUSE cannot run before 'a' of phase PREPARE"):
        pipeline.names()


def test_remove_and_replace(pipeline, make_pass):
    pipeline.add(make_pass("x"), after=("b",))
    pipeline.remove("b")
    assert pipeline.names() == ["a", "c", "x"], "a constraint on a removed pass is void"
    pipeline.replace("a", make_pass("z"))
    assert pipeline.names() == ["z", "c", "x"]
    for call in (lambda: pipeline.remove("b"), lambda: pipeline.replace("b", make_pass("q"))):
        with pytest.raises(PluginError, match="no pass named 'b'"):
            call()


def test_a_name_is_taken_once(pipeline, make_pass):
    with pytest.raises(PluginError, match="has a pass named 'a' already"):
        pipeline.add(make_pass("a"))
    with pytest.raises(PluginError, match="not a graph pass"):
        pipeline.add(lambda model, context: None)


def test_default_pipeline_is_fresh_and_in_order():
    default_pipeline().remove("fold_pads")
    names = default_pipeline().names()
    assert names == [p.name for p in BUILTIN_PASSES]
    assert len(set(names)) == len(names)
    assert all(p.__doc__ for p in BUILTIN_PASSES)


def _rename_output(model, report):
    model.graph.outputs[0].name = "other"


def _drop_input(model, report):
    model.graph.inputs.clear()


def _empty_name(model, report):
    model.graph[0].name = ""


def _same_name(model, report):
    model.graph[0].name = model.graph[1].name


def _undefined(model, report):
    import onnx_ir as ir

    model.graph[0].replace_input_with(0, ir.Value(name="ghost"))


def _unsorted(model, report):
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)


def _same_value_name(model, report):
    model.graph[0].outputs[0].name = "x"


@pytest.mark.parametrize(
    ("sabotage", "message"),
    [
        (_rename_output, r"the outputs are \['other'\]; expected \['y'\]"),
        (_drop_input, r"the required inputs are \[\]; expected \['x'\]"),
        (_empty_name, "a node of type Relu has no name"),
        (_same_name, "2 nodes are named 'second'"),
        (_undefined, "node 'first' .Relu. reads value 'ghost', which nothing produces"),
        (_unsorted, "node 'second' .Neg. stands before the node that produces 'a'"),
        (_same_value_name, "several values are named 'x'"),
    ],
)
def test_a_pass_that_breaks_the_model_is_named(build, make_pass, sabotage, message):
    pipeline = Pipeline()
    pipeline.add(make_pass("good"))
    pipeline.add(make_pass("bad", sabotage))
    with pytest.raises(PluginError, match=f"Pass 'bad' broke the model: {message}") as caught:
        pipeline.run(build(TEXT))
    assert caught.value.details["graph_pass"] == "bad"


def test_faults_of_the_input_are_not_blamed_on_a_pass(build, make_pass):
    model = build(TEXT.replace("[first]", "").replace("[second]", ""))
    pipeline = Pipeline()
    pipeline.add(make_pass("innocent"))
    pipeline.run(model)


def test_a_pass_that_raises_is_named(build, make_pass):
    def fail(model, report):
        raise KeyError("lost")

    pipeline = Pipeline()
    pipeline.add(make_pass("clumsy", fail))
    with pytest.raises(PluginError, match="Pass 'clumsy' failed: KeyError: 'lost'") as caught:
        pipeline.run(build(TEXT))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_broken_model_is_refused_before_any_pass(build):
    model = build('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { [n] y = Add(x, ghost) }')
    with pytest.raises(ModelError, match=r"The model is broken: node 'n' \(Add\) reads value 'ghost'"):
        prepare(model)


def test_fuse_runs_until_nothing_changes(build, make_pass):
    calls = []

    def three_times(model, report):
        calls.append(1)
        if len(calls) <= 3:
            report.change("first", f"round {len(calls)}")
        report.decline("second", f"seen in round {len(calls)}")

    pipeline = Pipeline()
    pipeline.add(make_pass("slow", three_times, Phase.FUSE))
    (report,) = pipeline.run(build(TEXT))
    assert [c.what for c in report.changes] == ["round 1", "round 2", "round 3"]
    assert [d.reason for d in report.declined] == ["seen in round 4"]


def test_a_restless_fuse_pass_is_named(build, make_pass):
    pipeline = Pipeline()
    pipeline.add(make_pass("quiet", phase=Phase.FUSE))
    pipeline.add(make_pass("restless", lambda _, report: report.change("first", "again"), Phase.FUSE))
    with pytest.raises(PluginError, match=r"\['restless'\] still change the model after 20 rounds"):
        pipeline.run(build(TEXT))


def test_context_says_why_a_fusion_is_off():
    assert PassContext().refusal("conv") is None
    assert PassContext(do_fusion=False).refusal("conv") == "do_fusion is false"
    assert PassContext(skip_fusion_layers=frozenset({"bn"})).refusal("conv", "bn") == "'bn' is in skip_fusion_layers"


def test_prepare_returns_one_report_a_pass_and_uses_the_given_pipeline(build, make_pass):
    assert [r.name for r in prepare(build(TEXT))] == default_pipeline().names()
    mine = Pipeline()
    mine.add(make_pass("mine"))
    assert [r.name for r in prepare(build(TEXT), pipeline=mine)] == ["mine"]


def test_fusions_enable_each_other(build, run, histogram):
    """BN·Add·Mul behind a Conv needs several rounds: BN+Add, Conv+BN, Conv+Mul."""
    rng = np.random.default_rng(0)
    model = build(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,2,5,5] x) => (float[N,4,3,3] y) {
           c = Conv(x, w)
           n = BatchNormalization(c, gamma, beta, mean, var)
           a = Add(n, shift)
           y = Mul(a, scale)
        }""",
        w=rng.standard_normal((4, 2, 3, 3), dtype=np.float32),
        **{name: rng.random(4, dtype=np.float32) + 0.5 for name in ("gamma", "beta", "mean", "var")},
        shift=rng.random((4, 1, 1), dtype=np.float32),
        scale=rng.random((1, 4, 1, 1), dtype=np.float32),
    )
    feeds = {"x": rng.standard_normal((2, 2, 5, 5), dtype=np.float32)}
    expected = run(model, feeds)["y"]
    prepare(model)
    assert histogram(model) == {"Conv": 1}
    np.testing.assert_allclose(run(model, feeds)["y"], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
