"""What the environment of a measurement holds."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest

from ort_quant_plugin.gates.environment import differences, environment
from ort_quant_plugin.ops.instruction_sets import instruction_sets
from ort_quant_plugin.ops.library import get_library_path


def test_facts(monkeypatch):
    monkeypatch.delenv("ORT_QUANT_ISA", raising=False)
    facts = environment()
    assert facts["numpy"] == version("numpy")
    assert facts["op_library"] == hashlib.sha256(Path(get_library_path()).read_bytes()).hexdigest()[:12]
    assert facts["isa"] == instruction_sets()[-1]
    assert set(facts) == {
        "onnxruntime", "numpy", "ort_quant_plugin", "op_library", "isa", "python", "machine", "cpu",
    }  # fmt: skip
    assert all(isinstance(value, str) and value for value in facts.values())


def test_the_runtime_is_the_one_that_runs():
    import onnxruntime

    assert environment()["onnxruntime"] == onnxruntime.__version__


def test_a_forced_instruction_set(monkeypatch):
    monkeypatch.setenv("ORT_QUANT_ISA", "scalar")
    facts = environment()
    assert (facts["isa"], facts["ORT_QUANT_ISA"]) == ("scalar", "scalar")
    assert instruction_sets()[0] == "scalar"


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(tmp_path / "gone.so"))
    facts = environment()
    assert (facts["op_library"], facts["isa"]) == ("missing", "missing")


def test_with_a_broken_library(monkeypatch, tmp_path):
    """Its digest tells it from the good one; it cannot be asked for its instruction set."""
    (tmp_path / "lib.so").write_bytes(b"no library")
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(tmp_path / "lib.so"))
    facts = environment()
    assert facts["isa"] == "missing"
    assert facts["op_library"] == hashlib.sha256(b"no library").hexdigest()[:12]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ({"isa": "avx2"}, {"isa": "avx2"}, []),
        (
            {"isa": "avx2", "numpy": "2"},
            {"isa": "scalar", "numpy": "1"},
            ["isa avx2 (there scalar)", "numpy 2 (there 1)"],
        ),
        ({}, {"ORT_QUANT_ISA": "avx2"}, ["ORT_QUANT_ISA not set (there avx2)"]),
        ({"ORT_QUANT_ISA": "avx2"}, {}, ["ORT_QUANT_ISA avx2 (there not set)"]),
    ],
)
def test_differences(here, there, expected):
    assert differences(here, there) == expected
