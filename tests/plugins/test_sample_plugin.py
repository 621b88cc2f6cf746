"""The sample plugin: its parts alone, and the whole as an installed distribution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.calibration.choose import choose_params
from ort_quant_plugin.calibration.sketch import Sketch
from ort_quant_plugin.config import ActivationConfig
from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.plugins import PluginManager, build_plugin_manager

if TYPE_CHECKING:
    from types import ModuleType

SAMPLE = Path(__file__).with_name("sample_plugin")


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plugin's module, without installing it."""
    monkeypatch.syspath_prepend(SAMPLE)
    import ort_quant_sample

    return ort_quant_sample


@pytest.fixture
def manager(sample: ModuleType) -> PluginManager:
    manager = build_plugin_manager(load_entry_points=False)
    manager.register(sample, name="sample")
    return manager


def relu_chain(count: int, outputs: list[int]) -> ir.Model:
    """``count`` Relus in a row; ``outputs`` tells whose results are outputs of the model."""
    x = value = ir.val("x", dtype=ir.DataType.FLOAT, shape=ir.Shape([3]))
    nodes = []
    for index in range(count):
        node = ir.node("Relu", [value], name=f"relu{index}")
        value = node.outputs[0]
        value.name, value.dtype, value.shape = f"y{index}", ir.DataType.FLOAT, ir.Shape([3])
        nodes.append(node)
    graph = ir.Graph([x], [nodes[i].outputs[0] for i in outputs], nodes=nodes, opset_imports={"": 13}, name="chain")
    return ir.Model(graph, ir_version=8)


def run(model: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


@pytest.mark.parametrize(
    ("outputs", "left", "declined"),
    [([2], ["relu2"], []), ([0, 2], ["relu0", "relu2"], ["relu0"]), ([1, 2], ["relu1", "relu2"], ["relu1"])],
)
def test_pass_collapses_relus(manager: PluginManager, outputs: list[int], left: list[str], declined: list[str]):
    model = relu_chain(3, outputs)
    x = np.array([-1, 0, 2], np.float32)
    before = run(model, x)
    reports = {report.name: report for report in manager.pipeline().run(model)}
    report = reports["collapse_relu"]
    assert [node.name for node in model.graph] == left
    assert [change.where for change in report.changes] == ["relu1", "relu2"]
    assert [entry.where for entry in report.declined] == declined
    for expected, actual in zip(before, run(model, x), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_method_asks_for_the_extremes(manager: PluginManager):
    method, spec = manager.methods()["minmax_plus"], manager.algorithms()["minmax_plus"]
    assert spec.defaults() == {"margin": 0.0}
    activation = ActivationConfig(algo="minmax_plus", parameters={"margin": 0.25})
    params = choose_params(method, Sketch.of([-1.0, 0.5, 4.0]), activation, subject="layer 'conv1'")
    assert params.scale == np.float32(6.0 / 255)
    assert params.offset == -128 + 43  # 1 / (6 / 255) = 42.5, away from zero


def test_method_parameter_is_checked(manager: PluginManager):
    (margin,) = manager.algorithms()["minmax_plus"].parameters
    assert margin.parse(1, "test") == 1.0
    with pytest.raises(ConfigError, match=r"margin = 1\.5; expected a number, in \[0, 1\]"):
        margin.parse(1.5, "test")


def test_metric(manager: PluginManager):
    assert manager.metrics()["mean_abs_error"]([1.0, 2.0], [0.0, 4.0]) == 1.5


def test_gate_metric(manager: PluginManager):
    rows = manager.gate_metrics()["margin"].rows(None, {"scores": np.array([[1.0, 5.0, 3.0], [2.0, 2.0, 0.0]])})
    assert rows.tolist() == [[2.0], [0.0]]


def test_should_quantize_follows_the_pattern(manager: PluginManager, monkeypatch: pytest.MonkeyPatch):
    nodes = [ir.node("Conv", [ir.val("x"), ir.val("w")], name=name) for name in ("head_conv", "stem_conv")]
    assert [manager.reason_to_skip(node, None) for node in nodes] == [None, None]  # type: ignore[arg-type]
    monkeypatch.setenv("ORT_QUANT_SAMPLE_KEEP", "head*")
    assert [manager.reason_to_skip(node, None) for node in nodes] == [  # type: ignore[arg-type]
        "plugin 'sample' keeps it float",
        None,
    ]


# The installed distribution


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder the plugin is installed into, as ``pip install ./sample_plugin`` would."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(target), str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"needs hatchling beside pip:\n{done.stdout}{done.stderr}"
    return target


def python(installed: Path, *arguments: str, cwd: Path, **environment: str) -> str:
    """Run Python with the plugin installed; only what is named loads, whatever else this machine has."""
    paths = [str(installed), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in paths),
        "ORT_QUANT_PLUGINS": "sample",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=variables
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


DESCRIBE = """
import json
from ort_quant_plugin.plugins import build_plugin_manager
print(json.dumps(build_plugin_manager(strict=True).describe()))
"""


@pytest.mark.packaging
def test_installed_plugin_is_found(installed: Path, tmp_path: Path):
    builtin, sample = json.loads(python(installed, "-c", DESCRIBE, cwd=tmp_path))
    assert builtin["name"] == "builtin"
    assert sample == {
        "name": "sample",
        "distribution": "ort-quant-sample",
        "version": "0.3.1",
        "builtin": False,
        "hooks": [
            "ort_quant_register_commands",
            "ort_quant_register_gate_metrics",
            "ort_quant_register_methods",
            "ort_quant_register_metrics",
            "ort_quant_register_passes",
            "ort_quant_report",
            "ort_quant_should_quantize",
        ],
        "registered": {
            "methods": ["minmax_plus"],
            "passes": ["collapse_relu"],
            "metrics": ["mean_abs_error"],
            "gate_metrics": ["margin"],
            "commands": ["widest-ranges"],
        },
        "error": None,
    }


@pytest.mark.packaging
def test_installed_plugin_can_be_left_out(installed: Path, tmp_path: Path):
    (builtin,) = json.loads(python(installed, "-c", DESCRIBE, cwd=tmp_path, ORT_QUANT_PLUGINS=""))
    assert builtin["name"] == "builtin"


@pytest.mark.packaging
def test_installed_plugin_adds_its_command(installed: Path, tmp_path: Path):
    (tmp_path / "record.txt").write_text(
        "".join(
            f'record {{\n  key: "{key}"\n  value {{\n    scale_d: {scale}\n    offset_d: 0\n  }}\n}}\n'
            for key, scale in [("a", 0.5), ("b", 2.0), ("c", 1.0)]
        )
    )
    main = ["-c", "from ort_quant_plugin.cli.main import main; main()"]
    assert "widest-ranges" in python(installed, *main, "--help", cwd=tmp_path)
    out = python(installed, *main, "widest-ranges", "record.txt", "--count", "2", cwd=tmp_path)
    assert out.splitlines() == ["2  b", "1  c"]


QUANTIZE = """
import json, sys
import onnx_ir as ir
import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.record import Record

batch = {"image": load_digits().calibration}
report = oq.quantize(demo_model_path(), [batch], "out/digits", method="minmax_plus", progress=False)
record = Record.read(report.record)
model = ir.load(report.outputs["fake_quant"])
print(json.dumps({
    "reasons": {layer.name: layer.reason for layer in report.layers if layer.status == "float"},
    "sections": report.sections,
    "passes": [p.name for p in report.passes],
    "stem": [record["stem_conv"].scale_d, record["stem_conv"].offset_d],
    "metadata": dict(model.metadata_props),
}))
"""


@pytest.mark.packaging
def test_installed_plugin_takes_part_in_a_run(installed: Path, tmp_path: Path):
    out: dict[str, Any] = json.loads(
        python(installed, "-c", QUANTIZE, cwd=tmp_path, ORT_QUANT_SAMPLE_KEEP="head*").splitlines()[-1]
    )
    assert out["reasons"]["head_conv"] == "plugin 'sample' (ort-quant-sample 0.3.1) keeps it float"
    assert "stem_conv" not in out["reasons"]
    assert "Conv quantized: 6" in out["sections"]["Layers by operator"]
    assert "collapse_relu" in out["passes"]
    # The digits fill [0, 1]: the plain minimum and maximum, where IFMR would search.
    assert out["stem"] == [float(np.float32(1) / np.float32(255)), -128]
    assert "plugin 'sample' (ort-quant-sample 0.3.1)" in out["metadata"]["ort_quant.plugins"]
