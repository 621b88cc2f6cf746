"""A repository against the server that serves it: states with reasons, requests, answers to the bit."""

from __future__ import annotations

import shutil

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.calibration.images import ImagePreprocess
from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.client import connect as connect_to
from ort_quant_plugin.triton.ensemble import Classifier, write_ensemble
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model
from ort_quant_plugin.triton.validate_server import check_server

pytestmark = pytest.mark.slow

FORMS = ["float", "fake_quant", "deploy", "ort", "qdq"]


@pytest.fixture(scope="module")
def repository(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    for form in FORMS:
        write_model(digits.models[form], folder, RepositoryOptions(form))
    write_model(digits.models["fake_quant"], folder, RepositoryOptions("python", backend="python"))
    write_model(digits.models["float"], folder, RepositoryOptions("versions", version=1))
    write_model(digits.models["ort"], folder, RepositoryOptions("versions", version=2))
    preprocess = ImagePreprocess(resize=(8, 8), std=(16.0,), channels="GRAY")
    write_ensemble(digits.models["ort"], folder, RepositoryOptions("picture"), Classifier(preprocess))
    write_model(digits.models["ort"], folder, RepositoryOptions("broken", ops_path="/nowhere/lib.so"))
    return folder


@pytest.fixture(scope="module")
def server(serve, repository):
    return serve(repository, tolerate_failures=True)


@pytest.fixture(scope="module")
def findings(server, repository, same_runtime):
    return check_server(repository, server.http_url)


def of(findings, model):
    return [(finding.level, finding.subject, finding.message) for finding in findings if finding.model == model]


@pytest.mark.parametrize("form", [*FORMS, "python", "picture"])
def test_every_form_answers_to_the_bit(findings, form):
    found = of(findings, form)
    assert [entry[:2] for entry in found] == [("ok", "version 1")] * 2
    assert found[0][2] == "The server has loaded it."
    assert "bit for bit" in found[1][2]


def test_both_versions(findings):
    subjects = [(level, subject) for level, subject, text in of(findings, "versions") if "bit for bit" in text]
    assert subjects == [("ok", "version 1"), ("ok", "version 2")]


def test_an_ensemble_is_asked_and_its_parts_with_it(findings):
    assert of(findings, "picture_ensemble")[1] == ("ok", "version 1", "It answers requests.")
    for part in ("picture_preprocess", "picture_postprocess"):
        assert of(findings, part) == [("ok", "version 1", "The server has loaded it.")]


def test_why_a_model_is_not_ready(findings):
    ((level, subject, message),) = of(findings, "broken")
    assert (level, subject) == ("error", "version 1")
    assert "UNAVAILABLE" in message
    assert "/nowhere/lib.so" in message
    assert {finding.level for finding in findings if finding.model != "broken"} == {"ok"}


def test_another_model_file_than_the_server_has(server, repository, tmp_path, same_runtime):
    """Here lies a model whose last layer gives other numbers, by little and by much."""
    for offset, level in ((1e-5, "warning"), (1.0, "error")):
        folder = tmp_path / level
        shutil.copytree(repository / "float", folder / "float")
        path = folder / "float" / "1" / "model.onnx"
        model = ir.load(path)
        bias = model.graph.outputs[0].producer().inputs[-1]
        bias.const_value = ir.tensor(bias.const_value.numpy() + np.float32(offset), name=bias.name)
        ir.save(model, path)
        last = check_server(folder, server.http_url)[-1]
        assert last.level == level
        assert "differ from those of ONNX Runtime" in last.message


def test_a_model_the_server_does_not_have(server, repository, tmp_path):
    shutil.copytree(repository / "ort", tmp_path / "elsewhere")
    (finding,) = check_server(tmp_path, f"grpc://{server.grpc_url}")
    assert (finding.level, finding.model) == ("error", "elsewhere")
    assert "has no model of this name" in finding.message


def test_requests_are_few_and_small(server, repository, same_runtime):
    with connect_to(server.http_url) as client:
        before = client.statistics("ort")["1"]
        check_server(repository, server.http_url)
        found = client.statistics("ort")["1"] - before
    assert (found.requests, found.inferences, found.failures) == (2, 1 + 3, 0)


def test_no_server(repository):
    with pytest.raises(TritonError, match="Repository index failed"):
        check_server(repository, "127.0.0.1:9", timeout=1)
