"""ops, plugins and demo."""

from __future__ import annotations

import os

import onnx_ir as ir
import pytest

from ort_quant_plugin import get_library_path, session_options
from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.ops.catalogue import OPERATORS


def test_ops_path_and_check(ort_quant):
    assert ort_quant("ops", "path").out == get_library_path() + "\n"
    assert ort_quant("ops", "path", "--deploy").out == get_library_path(deploy=True) + "\n"
    document = ort_quant("ops", "check", "--json").document
    assert document["schema"] == "ort-quant/ops-check/1"
    assert document["loads"] is True
    assert document["path"] == get_library_path()
    assert "loads" in ort_quant("ops", "check").out


def test_ops_lists_what_the_library_has(ort_quant, tmp_path):
    """Every operator of the list resolves in ONNX Runtime: a session complains about anything else, not about it."""
    import onnxruntime as ort

    document = ort_quant("ops", "--json").document
    assert "scalar" in document["instruction_set"]
    assert [(op["domain"], op["op"]) for op in document["ops"]] == [(domain, op) for domain, op, _ in OPERATORS]
    for domain, op, _ in [*OPERATORS, ("amct.customop", "NoSuchOp", "")]:
        x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
        node = ir.node(op, [x], domain=domain)
        node.outputs[0].name = "y"
        graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 13, domain: 1}, name="g")
        ir.save(ir.Model(graph, ir_version=8), tmp_path / "m.onnx")
        with pytest.raises(Exception) as caught:  # noqa: PT011  (ONNX Runtime's own exception types)
            ort.InferenceSession(str(tmp_path / "m.onnx"), session_options(log_severity_level=4))
        known = "is not a registered function/op" not in str(caught.value)
        assert known == (op != "NoSuchOp"), (domain, op, str(caught.value))


def test_forced_instruction_set(ort_quant, monkeypatch):
    monkeypatch.setenv("ORT_QUANT_ISA", "scalar")
    assert "scalar (forced" in ort_quant("ops", "check").out
    assert os.environ["ORT_QUANT_ISA"] == "scalar"
    monkeypatch.setenv("ORT_QUANT_ISA", "quantum")
    assert "quantum" in ort_quant("ops", "check", code=2).err


def test_missing_library(ort_quant, monkeypatch, tmp_path):
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(tmp_path / "gone.so"))
    assert "gone.so" in ort_quant("ops", "path", code=2).err
    (tmp_path / "gone.so").write_bytes(b"not a library")
    assert "gone.so" in ort_quant("ops", "check", code=2).err


def test_plugins(ort_quant):
    document = ort_quant("plugins", "--json").document
    builtin = document["plugins"][0]
    assert builtin["name"] == "builtin"
    assert builtin["registered"]["methods"] == [method.name for method in BUILTIN_METHODS]
    assert {"ifmr", "hfmg", "kld", "entropy"} <= set(builtin["registered"]["methods"])
    assert "exporters: fake_quant, ascend, ort, qdq" in ort_quant("plugins").out


def test_a_plugin_that_is_not_installed(ort_quant, monkeypatch):
    monkeypatch.setenv("ORT_QUANT_PLUGINS", "nowhere")
    result = ort_quant("plugins")
    assert "nowhere" in result.out
    assert "nowhere" in result.err
    ort_quant("plugins", "--strict", code=2)


def test_demo(ort_quant, tmp_path):
    result = ort_quant("demo", "--out", tmp_path / "demo")
    for name in (
        "digits_float.onnx",
        "digits_fake_quant_model.onnx",
        "digits_ort_model.onnx",
        "digits_qdq_model.onnx",
        "digits_deploy_model.onnx",
    ):
        assert name in result.out
        assert (tmp_path / "demo" / name).is_file()
    commands = result.out.split("Next:")[1].strip().splitlines()
    assert len(commands) == 3
    for line in commands[:2]:  # what the demo tells people to run next does run
        program, *args = line.split()
        assert program == "ort-quant"
        ort_quant(*args)
    document = ort_quant("demo", "--out", tmp_path / "demo", "--json").document  # overwrites its own files
    assert document["comparison"]["accuracy"]["top1"] > 0.98
    for candidate in document["comparison"]["candidates"]:
        assert candidate["outputs"][0]["agreement"] > 0.98
    assert document["sizes"]["qdq"] < document["sizes"]["float"] / 2


def test_demo_spares_other_files(ort_quant, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    err = ort_quant("demo", "--out", tmp_path, code=2).err
    assert "thesis.tex" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    ort_quant("demo", "--out", tmp_path, "--force")
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    assert "is a file" in ort_quant("demo", "--out", tmp_path / "thesis.tex", code=2).err
