"""Shared tools of the pass tests: running models, applying passes, looking at graphs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.model import input_specs
from ort_quant_plugin.passes import PassContext, Phase, Pipeline


def _session(model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    source = ir.to_proto(model).SerializeToString() if isinstance(model, ir.Model) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "Unsupported model IR version" in str(error):
            pytest.skip(f"onnxruntime {ort.__version__} is older than the model")
        raise


@pytest.fixture(scope="session")
def run():
    """Run a model (ir.Model or path) in ONNX Runtime without graph optimizations; outputs by name."""

    def _run(model, feeds):
        session = _session(model)
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return _run


@pytest.fixture(scope="session")
def feed():
    """Random feeds for a model; symbolic and unknown dimensions get the given size."""

    def _feed(model: ir.Model, free: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        feeds = {}
        for spec in input_specs(model):
            shape = [d if isinstance(d, int) else free for d in spec.shape]
            if np.issubdtype(spec.dtype, np.floating):
                feeds[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
            else:
                feeds[spec.name] = rng.integers(0, 2, shape).astype(spec.dtype)
        return feeds

    return _feed


@pytest.fixture(scope="session")
def apply(run, feed):
    """Run passes through a pipeline (so the contract is checked) and compare outputs before and after.

    tolerance: largest difference relative to the largest output magnitude; 0 = bit for bit.
    """

    def _apply(model, *passes, context=None, tolerance=0.0, free=(2,)):
        expected = [(feed(model, n), run(model, feed(model, n))) for n in free]
        pipeline = Pipeline()
        for graph_pass in passes:
            pipeline.add(graph_pass)
        reports = pipeline.run(model, context or PassContext())
        for feeds, outputs in expected:
            actual = run(model, feeds)
            assert list(actual) == list(outputs)
            for name, before in outputs.items():
                after = actual[name]
                assert after.shape == before.shape
                assert after.dtype == before.dtype
                if tolerance:
                    difference = np.max(np.abs(after.astype(np.float64) - before.astype(np.float64)), initial=0.0)
                    assert difference <= tolerance * np.max(np.abs(before.astype(np.float64)), initial=0.0)
                else:
                    np.testing.assert_array_equal(after, before)
        return reports[-1] if len(reports) == 1 else reports

    return _apply


@pytest.fixture(scope="session")
def histogram():
    """Operators of the main graph and how often each occurs."""
    return lambda model: dict(Counter(node.op_type for node in model.graph))


@pytest.fixture(scope="session")
def node():
    """The node of a name in the main graph."""

    def _node(model: ir.Model, name: str) -> ir.Node:
        return next(n for n in model.graph if n.name == name)

    return _node


@pytest.fixture(scope="session")
def make_pass():
    """A pass from a function ``(model, report)``."""

    def _make(name, function=lambda model, report: None, phase=Phase.PREPARE):
        from ort_quant_plugin.passes import PassReport

        class Made:
            def __call__(self, model, context):
                report = PassReport(name)
                function(model, report)
                return report

        made = Made()
        made.name, made.phase = name, phase
        return made

    return _make
