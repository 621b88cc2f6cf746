"""Gates on EfficientNet-Lite0 and real photos: the default quantization passes, per-tensor weights do not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import onnx_ir as ir
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.gates import Evaluator, Gate, run_gate
from ort_quant_plugin.gates.render.text import failure_text
from ort_quant_plugin.model import read_model, write_model

pytestmark = pytest.mark.slow

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "gate-in-ci.md"
PREPROCESS = {"mean": 127, "std": 128, "crop": 224, "split": "validation"}
MODELS = {"reference": "efficientnet_lite0.onnx", "data": "photos/labels.csv", "labels": "photos/labels.csv"}


@pytest.fixture(scope="module")
def project(shared_model, photos, tmp_path_factory):
    """A folder with the float model, the photos, and two quantizations: as it comes, and with per-tensor weights."""
    folder = tmp_path_factory.mktemp("lite0")
    model = shared_model("efficientnet_lite0.onnx")
    listing = photos("calibration")[0][0].parent / "labels.csv"
    (folder / MODELS["reference"]).symlink_to(model)
    (folder / "photos").symlink_to(listing.parent)
    oq.create_quant_config(str(folder / "config.json"), str(model), batch_num=100)
    config = json.loads((folder / "config.json").read_text())
    for layer in config.values():
        if isinstance(layer, dict) and "weight_quant_params" in layer:
            layer["weight_quant_params"]["channel_wise"] = False
    (folder / "per_tensor.json").write_text(json.dumps(config))
    (folder / "calibration.txt").write_text("\n".join(str(path) for path, _ in photos("calibration")))
    settings = {
        "targets": ["fake_quant", "ort"],
        "preprocess": oq.ImagePreprocess(mean=(127,), std=(128,), crop=224),
        "progress": False,
    }
    for name, given in (("lite0", None), ("lite0_per_tensor", folder / "per_tensor.json")):
        oq.quantize(model, folder / "calibration.txt", folder / "out" / name, config=given, **settings)
    return folder


@pytest.fixture
def gates(project, monkeypatch):
    """Run gates in the project's folder, sharing one evaluator."""
    monkeypatch.chdir(project)
    evaluator = Evaluator()

    def _run(model: str, metric: str, **settings):
        given = {"name": metric, "metric": metric, "model": model, "preprocess": PREPROCESS, **MODELS, **settings}
        return run_gate(Gate.from_mapping(given, where="test", base=Path()), evaluator)

    return SimpleNamespace(run=_run)


def test_the_default_quantization_passes(gates):
    """Float: 171 of 200. Two points of top-1 and four percent of changed answers are what int8 may cost."""
    model = "out/lite0_ort_model.onnx"
    results = {
        "top1": gates.run(model, "top1", max_drop=0.02),
        "agreement": gates.run(model, "agreement", min_value=0.96),
        "sqnr_db": gates.run(model, "sqnr_db", min_value=17),
        "size_ratio": gates.run(model, "size_ratio", max_value=0.3),
    }
    assert {name: result.status for name, result in results.items()} == dict.fromkeys(results, "passed")
    assert results["top1"].measurement.reference == 0.855
    assert results["top1"].measurement.samples == 200
    assert results["top1"].verdict.interval[0] <= results["top1"].verdict.drop <= results["top1"].verdict.interval[1]


def test_per_tensor_weights_miss_the_agreement(gates):
    """Channels that differ much in size cannot share one scale. The documented report is one of these."""
    result = gates.run("out/lite0_per_tensor_ort_model.onnx", "agreement", name="same-answers", min_value=0.96)
    assert result.status == "failed"
    assert result.measurement.value < 0.92
    assert result.verdict.interval[1] < 0.96, "the miss is no accident of 200 photos"
    assert len(result.measurement.layers) == 3
    assert result.measurement.layers[0].added_noise > 0.005, "five times what per-channel weights make of any layer"
    result.rerun = "ort-quant gate run gates.toml --only same-answers"
    text = failure_text(result, report="gates.json")
    documented = re.findall(r"^```text\n(gate '.*?)^```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (shown,) = (block for block in documented if form(block) == form(text))
    for number, expected in zip(headline(text), headline(shown), strict=True):
        assert number == pytest.approx(expected, abs=1.5 if expected > 1 else 0.3), (
            "the how-to's numbers are no longer what is measured"
        )
    assert len({*layer_names(text)} & {*layer_names(shown)}) >= 2, "layers of nearly the same noise may swap places"
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100


def headline(text: str) -> list[float]:
    """Value, limit, interval, samples, and each layer's SQNR and noise."""
    lines = text.splitlines()
    told = [lines[0], *(line for line in lines if re.match(r" *(int8|95 % CI|samples) ", line))]
    told = [re.sub(r"out/\S+|int8|95 % CI", "", line) for line in told]
    layers = [line.split("Conv  ")[-1] for line in lines if re.match(r" */_\S+ +Conv ", line)]
    return [float(number) for line in told + layers for number in re.findall(r"\d+(?:\.\d+)?", line)]


def layer_names(text: str) -> list[str]:
    return re.findall(r"^ *(/_\S+) +Conv", text, re.MULTILINE)


def form(text: str) -> list[str]:
    """A report without what differs from run to run: numbers, and which layers are the worst."""
    lines = (re.sub(r"^ */_\S+ +Conv.*", "  LAYER", line) for line in text.splitlines())
    return [" ".join(re.sub(r"\d+(\.\d+)?", "#", line).split()) for line in lines if line.strip()]


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_damaged_layer_is_named(gates, project, tmp_path, position):
    """The scale of one of 50 layers is doubled."""
    model = read_model(project / "out" / "lite0_fake_quant_model.onnx")
    quantizers = [node for node in model.graph if node.op_type == "AscendQuant"]
    node = quantizers[position]
    node.attributes["scale"] = ir.AttrFloat32("scale", 2 * node.attributes["scale"].as_float())
    write_model(model, tmp_path / "damaged.onnx")
    result = gates.run(os.fspath(tmp_path / "damaged.onnx"), "sqnr_db", min_value=17, max_samples=16)
    layers = [layer.name for layer in result.measurement.layers]
    assert result.status == "failed"
    assert layers[0] == node.name.removesuffix(".quant")
