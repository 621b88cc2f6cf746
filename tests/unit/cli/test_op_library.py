"""--op-library: every verb that reads a model with foreign operators takes it, and a bad one is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ort_quant_plugin.model import write_model
from ort_quant_plugin.ops.library import get_library_path


@pytest.fixture
def foreign(build, tmp_path):
    """A model with an operator of another domain; any library vouches for it until a session is made."""
    model = build(
        """<ir_version: 8, opset_import: ["" : 13, "acme" : 1]>
        net (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) {
            [strange] a = acme.Strange (x)
            [conv] y = Conv (a, w)
        }""",
        w=np.array([0.5, -1.0, 0.25, 1.0, 2.0, 3.0], np.float32).reshape(2, 3, 1, 1),
    )
    write_model(model, tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


VERBS = {
    "config": ("-o", "c.json"),
    "inspect": (),
    "prepare": ("-o", "m.onnx", "--record", "r.txt"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_model_with_foreign_operators_needs_it(ort_quant, foreign, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    err = ort_quant(verb, foreign, *VERBS[verb], code=2).err
    assert "Strange" in err
    assert "--op-library" in err
    ort_quant(verb, foreign, *VERBS[verb], "--op-library", get_library_path())


def test_what_is_written_is_the_configuration_of_that_model(ort_quant, foreign, tmp_path):
    ort_quant("config", foreign, "-o", tmp_path / "c.json", "--op-library", get_library_path())
    assert json.loads((tmp_path / "c.json").read_text())["conv"]["quant_enable"] is True


EVALUATOR = """
from pathlib import Path

class Evaluator:
    def calibration(self, modified_model):
        Path(__file__).with_suffix(".ran").write_text("")

evaluator = Evaluator()
"""


def test_an_evaluator_sees_the_model(ort_quant, foreign, tmp_path):
    """The model gets through both steps in front of the user's loop; this one calibrates nothing."""
    (tmp_path / "e.py").write_text(EVALUATOR)
    err = ort_quant(
        *("quantize", foreign, "-o", tmp_path / "out/d", "--evaluator", tmp_path / "e.py"),
        *("--op-library", get_library_path()),
        code=2,
    ).err
    assert (tmp_path / "e.ran").exists(), err
    assert "conv" in err


@pytest.fixture(params=["missing", "text"])
def bad_library(request, tmp_path):
    if request.param == "missing":
        return Path("/nonexistent.so")
    (tmp_path / "library.so").write_text("this is no library\n")
    return tmp_path / "library.so"


def test_quantize_refuses_a_bad_library(ort_quant, digits, tmp_path, bad_library):
    err = ort_quant(
        *("quantize", digits.model, "-d", digits.calibration, "-o", tmp_path / "out/d", "--batch-num", 2),
        *("--op-library", bad_library),
        code=2,
    ).err
    assert str(bad_library) in err
    assert "--op-library" in err.splitlines()[-1]
    assert not list(tmp_path.glob("out/*"))


def test_compare_refuses_a_bad_library(ort_quant, digits, bad_library):
    err = ort_quant(
        *("compare", digits.model, digits.outputs["qdq"], "-d", digits.evaluation, "--limit", 1),
        *("--op-library", bad_library),
        code=2,
    ).err
    assert str(bad_library) in err
    assert "--op-library" in err.splitlines()[-1]
