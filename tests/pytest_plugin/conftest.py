"""Projects that use the plugin, and pytest runs in processes of their own."""

from __future__ import annotations

import shutil

import numpy as np
import onnx_ir as ir
import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.demo import demo_model_path, load_digits

PLUGIN = ("-p", "ort_quant_plugin.pytest_plugin")
DAMAGED = "depthwise_conv"

# Judging a measurement that the test brings along needs no inference: most options can be tested with that.
CONFTEST = """
import pytest
from ort_quant_plugin.gates.measurement import Measurement


@pytest.fixture
def accuracy():
    def measurement(value=0.95, reference=0.96, metric="top1"):
        return Measurement(
            metric, "share", "own", True, value, reference, samples=100, environment={"host": "a test"}
        )

    return measurement
"""
INI = """[pytest]
filterwarnings = error
addopts = --strict-markers --strict-config
"""


@pytest.fixture(autouse=True)
def _plugins_by_name_only(monkeypatch):
    """Whatever is installed: only what a test names with -p is loaded, and nothing from outside changes pytest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)
    monkeypatch.delenv("ORT_QUANT_ISA", raising=False)


@pytest.fixture(
    params=[(), ("-p", "xdist.plugin", "-n", "0"), ("-p", "xdist.plugin", "-n", "2")], ids=["plain", "n0", "n2"]
)
def plugin_args(request):
    """Without pytest-xdist, with it but in one process, in two processes."""
    return request.param


@pytest.fixture
def project(pytester):
    """A folder with the fixture ``accuracy`` and strict settings; returns what writes more ini settings."""
    pytester.makeconftest(CONFTEST)
    pytester.makefile(".ini", pytest=INI)

    def more(*settings):
        pytester.makefile(".ini", pytest=INI + "\n".join(settings))

    return more


@pytest.fixture
def run(pytester):
    """Run pytest in the project, with the plugin."""

    def _run(*args):
        return pytester.runpytest_subprocess(*PLUGIN, *args)

    return _run


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with the digits network as float, int8 and damaged int8 model, and 60 digits with labels."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    shutil.copy(demo_model_path(), folder / "float.onnx")
    oq.quantize(
        demo_model_path(),
        data.calibration[::10],
        folder / "int8",
        targets=("fake_quant", "ascend", "ort"),
        progress=False,
    )
    _damage(folder / "int8_fake_quant_model.onnx", folder / "damaged_fake_quant_model.onnx")
    np.save(folder / "x.npy", data.evaluation[::7][:60])
    np.save(folder / "y.npy", data.labels[::7][:60])
    return folder


def _damage(source, target):
    """Double the scale that one layer quantizes its input with."""
    model = ir.load(source)
    node = next(node for node in model.graph if node.name == f"{DAMAGED}.quant")
    node.attributes["scale"] = ir.AttrFloat32("scale", 2 * node.attributes["scale"].as_float())
    ir.save(model, target)


@pytest.fixture
def digits_project(pytester, project, digits):
    """A project that has the digits' files."""
    for path in digits.iterdir():
        (pytester.path / path.name).symlink_to(path)
    return project
