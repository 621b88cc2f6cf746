"""``examples/gates`` as a user finds it: quantize, judge, damage, update."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gates"
GENERATED = shutil.ignore_patterns(
    "build", "data", "__pycache__", ".pytest_cache", "gates.json", "gates.md", "gates.html"
)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """A copy of the example, quantized."""
    folder = tmp_path_factory.mktemp("example") / "gates"
    shutil.copytree(EXAMPLE, folder, ignore=GENERATED)
    command = [sys.executable, "-W", "error", "quantize.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("9 layers in int8, 2 in float: ")
    return folder


@pytest.fixture
def example(quantized, pytester):
    """A copy for a test of its own."""
    shutil.copytree(quantized, pytester.path, dirs_exist_ok=True)
    return pytester.path


def test_all_gates_hold(example, run):
    result = run("-W", "error", "--quant-require-gates")
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(["quant gates: 7 passed, 0 failed, 0 not run"])


def test_a_damaged_model(example, run):
    path = example / "build" / "digits_fake_quant_model.onnx"
    model = ir.load(path)
    node = next(node for node in model.graph if node.name == "depthwise_conv.quant")
    node.attributes["scale"] = ir.AttrFloat32("scale", 2 * node.attributes["scale"].as_float())
    ir.save(model, path)
    shutil.copy(path, example / "build" / "digits_ort_model.onnx")
    result = run("--quant-report", "gates.json", "-k", "accuracy or same or noisier or simulated")
    result.assert_outcomes(failed=5, deselected=2)
    results = {item["gate"]["name"]: item for item in json.loads((example / "gates.json").read_text())["results"]}
    copy = results["test_what_was_simulated_is_what_is_served[ort]"]
    assert copy["status"] == "error", "it is the very file it is compared with"
    layers = results["test_accuracy"]["measurement"]["layers"]
    assert layers[0]["name"] == "depthwise_conv"


def test_nothing_measured_is_stored_with_a_path_or_for_another_model():
    """What is committed must say the same on every machine."""
    stored = list((EXAMPLE / "tests" / "quant_baselines").rglob("*.json"))
    assert stored
    for path in stored:
        measurement = json.loads(path.read_text(encoding="utf-8"))["measurement"]
        assert measurement["models"]["model"]["path"] == "digits_ort_model.onnx"
        assert "/" not in measurement["data"]["spec"]
        assert measurement["environment"]["ort_quant_plugin"] != "0+unknown"
