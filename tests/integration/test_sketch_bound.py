"""The ranges IFMR and HFMG choose from sketches, against those from all values, on every tensor of real models."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

import ort_quant_plugin as oq
from ort_quant_plugin.calibration.calibrate import calibration_nodes
from ort_quant_plugin.model import read_model, write_model
from ort_quant_plugin.record import Record

pytestmark = pytest.mark.slow


@pytest.fixture
def feeds(photos, text_lines, scaled_photos):
    def lite0():
        images = [np.asarray(Image.open(path).convert("RGB"), np.float32) for path, _ in photos("calibration")[:4]]
        return [{"input": ((image[:224, :224] - 127) / 128).transpose(2, 0, 1)[None]} for image in images]

    return {
        "efficientnet_lite0": lite0,
        "cls": lambda: text_lines(10, 192, 1),
        "rec": lambda: text_lines(4, 320, 1),
        "nudenet": lambda: scaled_photos("calibration", 2, 320),
    }


def calibrated(model, feeds, tmp_path, storage, method):
    """Ranges by record key, and the tensors behind them with all their values."""
    config, modified, record = (str(tmp_path / f"{storage}.{part}") for part in ("json", "onnx", "txt"))
    oq.create_quant_config(config, str(model), batch_num=len(feeds))
    document = json.loads((tmp_path / f"{storage}.json").read_text())
    for layer in document.values():
        if isinstance(layer, dict) and "activation_quant_params" in layer:
            layer["activation_quant_params"] = {"act_algo": method, "num_bits": 8, "asymmetric": True}
    (tmp_path / f"{storage}.json").write_text(json.dumps(document))
    oq.quantize_model(config, str(model), modified, record, storage=storage)
    opened = read_model(modified)
    nodes = calibration_nodes(opened)
    opened.graph.outputs.extend(node.tensor for node in nodes if node.tensor not in opened.graph.inputs)
    write_model(opened, tmp_path / f"{storage}_outputs.onnx")
    options = oq.session_options(graph_optimization_level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    session = ort.InferenceSession(str(tmp_path / f"{storage}_outputs.onnx"), options)
    names = [output.name for output in session.get_outputs()]
    runs = [dict(zip(names, session.run(names, feed), strict=True)) | feed for feed in feeds]
    values = {node.tensor.name: np.concatenate([run[node.tensor.name].ravel() for run in runs]) for node in nodes}
    ranges = {key: (entry.scale_d, entry.offset_d) for key, entry in Record.read(record).items()}
    return {key: (node.tensor.name, ranges[key]) for node in nodes for use in node.uses for key in use.keys}, values


def squared_error(values, scale, offset):
    """Σ (x̂ − x)², halves away from zero, as AMCT's searches take it."""
    x = values.astype(np.float64)
    q = np.clip(np.trunc(x / scale + np.copysign(0.5, x)) + offset, -128, 127)
    return float(np.square((q - offset) * scale - x).sum())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "cls", "rec", "nudenet"])
def test_ifmr_loses_one_percent_at_most(name, feeds, shared_model, wheel_model, tmp_path):
    model = shared_model(f"{name}.onnx") if name == "efficientnet_lite0" else wheel_model(name)
    data = feeds[name]()
    exact, values = calibrated(model, data, tmp_path, "exact", "ifmr")
    sketch, _ = calibrated(model, data, tmp_path, "sketch", "ifmr")
    assert set(exact) == set(sketch)
    same = 0
    for key, (tensor, chosen) in exact.items():
        _, ours = sketch[key]
        # Neighbouring candidates are 1 % apart; a bin of the sketch is at most 1/4096 of the range.
        same += abs(ours[0] / chosen[0] - 1) < 0.003
        # Bin centres stand for many values each; of a vector of some hundred values each may be half a bin off.
        bound = 1.01 if values[tensor].size >= 1000 else 1.03
        assert squared_error(values[tensor], *ours) <= bound * squared_error(values[tensor], *chosen), key
    assert same >= 0.9 * len(exact)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "cls"])
def test_hfmg_stays_close(name, feeds, shared_model, wheel_model, tmp_path):
    """HFMG's own histogram depends on the order of the data; from the sketch its error is at most 5 % larger."""
    model = shared_model(f"{name}.onnx") if name == "efficientnet_lite0" else wheel_model(name)
    data = feeds[name]()
    exact, values = calibrated(model, data, tmp_path, "exact", "hfmg")
    sketch, _ = calibrated(model, data, tmp_path, "sketch", "hfmg")
    for key, (tensor, chosen) in exact.items():
        assert squared_error(values[tensor], *sketch[key][1]) <= 1.05 * squared_error(values[tensor], *chosen), key
