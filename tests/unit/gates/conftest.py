"""What the tests of gates share: the digits network in every form, damage done to it, and gates about it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.model import read_model, write_model


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Paths of the digits network: ``float``, ``fake_quant``, ``ascend``, ``ort``, ``qdq``; 200 samples with labels."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    targets = ["fake_quant", "ascend", "ort", "qdq"]
    report = oq.quantize(
        demo_model_path(), data.calibration, folder / "digits", targets=targets, method="minmax", progress=False
    )
    model = folder / "digits_float.onnx"
    shutil.copy(demo_model_path(), model)
    np.save(folder / "data.npy", data.evaluation[:200])
    np.save(folder / "labels.npy", data.labels[:200])
    return SimpleNamespace(
        float=str(model), **{name: str(report.outputs[name]) for name in targets},
        data=str(folder / "data.npy"), labels=str(folder / "labels.npy"),
    )  # fmt: skip


@pytest.fixture
def gate(digits):
    """Make a gate about the digits network; keyword arguments change it, ``None`` takes one away."""

    def _gate(metric: str, model: str | None = "fake_quant", **settings) -> Gate:
        given = {
            "name": metric, "metric": metric, "model": getattr(digits, str(model), model), "reference": digits.float,
            "data": digits.data, "labels": digits.labels, "min_value": 0.0, "batch_size": 20,
        } | settings  # fmt: skip
        return Gate.from_mapping(given, where="test", base=Path())

    return _gate


@pytest.fixture
def damaged(digits, tmp_path):
    """A copy of the fake_quant model in which one layer's activation scale is doubled before it is quantized."""

    def _damaged(layer: str, source: str = digits.fake_quant, name: str = "damaged.onnx") -> str:
        model = read_model(source)
        node = next(node for node in model.graph if node.name == f"{layer}.quant")
        node.attributes["scale"] = ir.AttrFloat32("scale", 2 * node.attributes["scale"].as_float())
        write_model(model, tmp_path / name)
        return str(tmp_path / name)

    return _damaged
