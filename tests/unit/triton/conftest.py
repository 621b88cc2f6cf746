"""Models to put into repositories: the shipped digits network in every form, and small ones from text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits
from ort_quant_plugin.model import write_model

if TYPE_CHECKING:
    from ort_quant_plugin.triton.finding import Finding

FORMS = {"float": None, "fake_quant": "fake_quant", "deploy": "ascend", "ort": "ort", "qdq": "qdq"}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Path of the digits network by form: float, fake_quant, deploy, ort, qdq, and two calibration models."""
    folder = tmp_path_factory.mktemp("digits")
    targets = [target for target in FORMS.values() if target]
    report = oq.quantize(
        demo_model_path(), load_digits().calibration, folder / "digits", targets=targets, batch_size=50, progress=False
    )
    models = {form: report.outputs[target] if target else demo_model_path() for form, target in FORMS.items()}
    oq.create_quant_config(str(folder / "config.json"), str(demo_model_path()))
    config = json.loads((folder / "config.json").read_text())
    for layer in config.values():
        if isinstance(layer, dict) and "activation_quant_params" in layer:
            layer["activation_quant_params"] = {"act_algo": "kld", "num_bits": 8, "asymmetric": True}
    (folder / "kld.json").write_text(json.dumps(config))
    calibration = folder / "calibration.onnx"
    oq.quantize_model(str(folder / "kld.json"), str(demo_model_path()), str(calibration), str(folder / "record.txt"))
    recording = folder / "recording.onnx"
    oq.quantize_model(str(folder / "config.json"), str(demo_model_path()), str(recording), str(folder / "record.txt"))
    return {**models, "calibration": calibration, "recording": recording}


@pytest.fixture
def save(build, tmp_path):
    """Write a model given as ONNX text; keyword arguments become initializers. Returns its path."""

    def _save(text, name="net.onnx", *, external=False, **arrays):
        path = tmp_path / "source" / name
        write_model(build(text, **arrays), path, force_external=external)
        return path

    return _save


@pytest.fixture
def tree():
    """Files below a folder by relative path."""
    return lambda folder: {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def errors_in():
    """``subject: message`` of the findings of a level."""

    def _errors(findings: list[Finding], level="error"):
        return [f"{f.subject}: {f.message}" for f in findings if f.level == level]

    return _errors
