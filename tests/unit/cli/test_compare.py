"""compare from the command line: tables, thresholds, labels."""

from __future__ import annotations

import re

import pytest


@pytest.fixture(scope="module")
def args(digits):
    return (
        *("compare", digits.model, digits.outputs["fake_quant"], digits.outputs["qdq"]),
        *("-d", digits.evaluation, "--batch-size", 50, "--limit", 4),
    )


def test_tables(ort_quant, args):
    result = ort_quant(*args, "--layers", "--worst", 2)
    assert "on 200 samples in 4 batches" in result.out
    assert "d_fake_quant_model.onnx" in result.out
    assert "100.00 %" in result.out
    assert "the worst 2 of 9" in result.out
    assert result.out.count("residual2_conv") >= 1
    assert "PASSED" not in result.out


def test_labels_and_json(ort_quant, digits, args):
    without = args[:-2]
    document = ort_quant(*without, "--labels", digits.labels, "--layers", "--json").document
    assert document["schema"] == "ort-quant/compare/1"
    assert document["verdict"] is None
    assert document["samples"] == document["accuracy"]["samples"] == 450
    assert document["accuracy"]["top1"] > 0.98
    for candidate in document["candidates"]:
        assert candidate["outputs"][0]["cosine"] > 0.999
        assert candidate["accuracy"]["top1"] > 0.97
        sqnr = [layer["sqnr_db"] for layer in candidate["layers"]]
        assert sqnr == sorted(sqnr)
        assert candidate["unmatched"] == []
    assert "Top-5" in ort_quant(*without, "--labels", digits.labels).out


def test_thresholds_decide_the_exit_code(ort_quant, args):
    passed = ort_quant(*args, "--min-cosine", 0.99, "--min-agreement", 0.9)
    assert re.match(r"PASSED in \d+\.\d s: ort-quant compare .* --min-agreement 0\.9$", passed.out.splitlines()[-1])
    failed = ort_quant(*args, "--min-cosine", 0.999999, code=1)
    assert "output logits: cosine 0.99" in failed.out
    assert "FAILED in " in failed.out.splitlines()[-1]
    document = ort_quant(*args, "--min-cosine", 0.999999, "--json", code=1).document
    assert document["verdict"] == "failed"
    assert len(document["findings"]) == 2


def test_drop_against_labels(ort_quant, digits, args):
    ort_quant(*args[:-2], "--labels", digits.labels, "--max-drop", 0.05)
    ort_quant(*args[:-2], "--labels", digits.labels, "--max-drop", -0.5, code=1)


def test_a_deploy_model_runs_untouched(ort_quant, digits, args):
    simulated, deployed = (digits.outputs[target] for target in ("fake_quant", "ascend"))
    document = ort_quant("compare", simulated, deployed, *args[4:], "--json").document
    (candidate,) = document["candidates"]
    assert [output["max_abs_error"] for output in candidate["outputs"]] == [0]


def test_bad_input(ort_quant, digits, args, tmp_path):
    assert "450 labels for 200 samples" in ort_quant(*args, "--labels", digits.labels, code=2).err
    assert (
        "does not exist" in ort_quant("compare", digits.model, tmp_path / "gone", "-d", digits.evaluation, code=2).err
    )
    assert "does not exist" in ort_quant("compare", digits.model, digits.model, "-d", tmp_path / "gone", code=2).err
