"""What the repository writer writes, on a real server: it loads, and answers as ONNX Runtime does here."""

from __future__ import annotations

import http.client
import io
import re
import threading

import numpy as np
import pytest
from PIL import Image

from ort_quant_plugin.calibration.images import ImagePreprocess
from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton import client as triton_client
from ort_quant_plugin.triton.config import config_text, parse_config
from ort_quant_plugin.triton.ensemble import Classifier, write_ensemble
from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions
from ort_quant_plugin.triton.repository import write_model

FORMS = ["float", "fake_quant", "deploy", "ort", "qdq"]
PRECISIONS = {
    "float": "fp32",
    "fake_quant": "fake_quant",
    "deploy": "int8-deploy",
    "ort": "int8-ort",
    "qdq": "int8-qdq",
}
LABELS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PROTOCOLS = ["http", "grpc"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(digits, tmp_path_factory):
    """Every kind of template, of the digits network."""
    folder = tmp_path_factory.mktemp("repository")
    for form in FORMS:
        write_model(digits.models[form], folder, RepositoryOptions(form))
    write_model(digits.models["ort"], folder, RepositoryOptions("python", backend="python", warmup=False))
    write_model(digits.models["float"], folder, RepositoryOptions("digits", version=1, warmup=False))
    write_model(digits.models["ort"], folder, RepositoryOptions("digits", version=2, warmup=False))
    write_model(digits.models["float"], folder, RepositoryOptions("plain", graph_level=2, warmup=False))
    slow = DynamicBatching(queue_delay_us=300_000)
    write_model(digits.models["ort"], folder, RepositoryOptions("joined", dynamic_batching=slow, warmup=False))
    write_model(digits.models["qdq"], folder, RepositoryOptions("warm", warmup=True))
    write_model(digits.models["qdq"], folder, RepositoryOptions("cold", warmup=False, tags={"team": "digits"}))
    labels = tmp_path_factory.mktemp("labels") / "labels.txt"
    labels.write_text("\n".join(LABELS), encoding="utf-8")
    preprocess = ImagePreprocess(mean=(0.0,), std=(240.0,), channels="GRAY")
    write_ensemble(
        digits.models["ort"], folder, RepositoryOptions("classifier"), Classifier(preprocess, labels, top_k=3)
    )
    return folder


@pytest.fixture(scope="module")
def server(repository, serve):
    return serve(repository)


@pytest.fixture(scope="module")
def client(server, connect):
    return connect(server)


def test_every_template_loads(client, repository):
    states = {(model.name, model.version): model.state for model in client.index()}
    expected = {(folder.name, "1") for folder in repository.iterdir()} | {("digits", "2")}
    assert states == dict.fromkeys(expected, "READY")


def test_templates_are_for_the_genuine_backend(repository):
    """Nothing a repository says is about the server that the tests run."""
    for path in repository.glob("*/config.pbtxt"):
        config = parse_config(path)
        python = config.name in {"python", "classifier_preprocess", "classifier_postprocess"}
        ensemble = config.name == "classifier_ensemble"
        assert config.backend == ("python" if python else "" if ensemble else "onnxruntime")
        assert config.platform == ("ensemble" if ensemble else "")
        assert "standin" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("form", FORMS)
def test_answers_are_those_of_onnxruntime(form, protocol, server, connect, digits, same_runtime):
    """Bit for bit, for every batch size."""
    client = connect(server, protocol)
    for start, size in ((0, 1), (1, 3), (4, 8)):
        images = digits.images[start : start + size]
        answer = client.infer(form, {digits.input: images})[digits.output]
        np.testing.assert_array_equal(answer.view(np.uint32), digits.answer(form, images).view(np.uint32))


def test_the_graph_level_is_obeyed(client, digits, same_runtime):
    """Level 2 switches ONNX Runtime's optimizations off; those of the float net change last bits."""
    images = digits.images[:8]
    plain, optimized = (digits.answer("float", images, optimize=optimize) for optimize in (False, True))
    assert not np.array_equal(plain, optimized)
    np.testing.assert_array_equal(client.infer("plain", {digits.input: images})[digits.output], plain)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_python_variant_answers_as_the_other(protocol, server, connect, digits):
    images = digits.images[:8]
    client = connect(server, protocol)
    answers = [client.infer(model, {digits.input: images})[digits.output] for model in ("python", "ort")]
    np.testing.assert_array_equal(*answers)


def test_predictions_are_right(client, digits):
    """Of 64 digits each form reads at least 62 (the float net: 99 %)."""
    for form in FORMS:
        batches = [client.infer(form, {digits.input: digits.images[i : i + 8]})[digits.output] for i in range(0, 64, 8)]
        assert (np.concatenate(batches).argmax(1) == digits.labels[:64]).sum() >= 62


def test_only_requested_outputs_come(client, digits):
    assert set(client.infer("ort", {digits.input: digits.images[:1]}, outputs=[digits.output])) == {digits.output}
    with pytest.raises(TritonError, match="unexpected inference output 'nothing'"):
        client.infer("ort", {digits.input: digits.images[:1]}, outputs=["nothing"])


def test_requests_are_joined(server, client, digits):
    """Eight clients ask at once; the server waits 0.3 s for a batch of 8 and runs them together."""
    before = client.statistics("joined")["1"]
    barrier, answers = threading.Barrier(8), {}

    def ask(index):
        with triton_client.connect(server.http_url) as client:
            assert client.is_ready("joined")
            barrier.wait()
            answers[index] = client.infer("joined", {digits.input: digits.images[index : index + 1]})

    threads = [threading.Thread(target=ask, args=[index]) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = client.statistics("joined")["1"] - before
    assert (made.requests, made.inferences) == (8, 8)
    assert made.executions <= 2
    for index in range(8):
        expected = digits.answer("ort", digits.images[index : index + 1])
        np.testing.assert_array_equal(answers[index][digits.output], expected)


def test_two_versions_side_by_side(client, digits, same_runtime):
    images = digits.images[:5]
    expected = {"1": digits.answer("float", images), "2": digits.answer("ort", images)}
    assert not np.array_equal(*expected.values())
    for version, answer in expected.items():
        got = client.infer("digits", {digits.input: images}, version=version)[digits.output]
        np.testing.assert_array_equal(got, answer)
    latest = client.infer("digits", {digits.input: images})[digits.output]
    np.testing.assert_array_equal(latest, expected["2"])


def test_warm_up_runs_before_the_first_request(client):
    """It counts as traffic: a batch of one and one of eight."""
    warm, cold = (client.statistics(model)["1"] for model in ("warm", "cold"))
    assert (warm.inferences, warm.executions) == (9, 2)
    assert (cold.inferences, cold.executions) == (0, 0)


def png(image: np.ndarray) -> bytes:
    """A digit as people have it; its pixels are multiples of 15, so that 240 brings them back exactly."""
    stream = io.BytesIO()
    Image.fromarray((image[0] * 240).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ensemble_reads_pictures(protocol, server, connect, digits):
    images = digits.images[:6]
    pictures = np.array([[png(image)] for image in images], np.object_)
    answer = connect(server, protocol).infer("classifier_ensemble", {"image": pictures})
    logits = digits.answer("ort", images)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(answer["class_id"], best)
    np.testing.assert_array_equal(answer["score"], np.take_along_axis(logits, best, 1))
    assert answer["label"].tolist() == [[LABELS[index].encode() for index in row] for row in best]
    assert (best[:, 0] == digits.labels[:6]).sum() >= 5


def test_models_come_and_go_on_request(wait_until, serve, connect, digits, repository):
    """Explicit model control: nothing is loaded until a client asks."""
    client = connect(serve(repository, explicit=True))
    feeds = {digits.input: digits.images[:2]}
    assert {model.state for model in client.index()} == {""}
    with pytest.raises(TritonError, match="digits"):
        client.infer("digits", feeds)
    client.load("digits")
    assert client.is_ready("digits", "1")
    assert client.is_ready("digits", "2")
    assert not client.is_ready("ort")
    np.testing.assert_array_equal(
        client.infer("digits", feeds)[digits.output], digits.answer("ort", feeds[digits.input])
    )
    client.unload("digits")
    assert wait_until(lambda: not client.is_ready("digits"))
    with pytest.raises(TritonError, match="digits"):
        client.infer("digits", feeds)
    with pytest.raises(TritonError, match="nobody"):
        client.load("nobody")


def test_what_a_configuration_leaves_out_is_filled_in(serve, connect, digits, tmp_path_factory):
    """As Triton's own backend does: nothing but the library is needed; and the python variant puts up with it."""
    folder = tmp_path_factory.mktemp("minimal")
    write_model(digits.models["ort"], folder, RepositoryOptions("minimal", warmup=False))
    write_model(digits.models["ort"], folder, RepositoryOptions("python", backend="python", warmup=False))
    path = folder / "minimal" / "config.pbtxt"
    whole = parse_config(path)
    config = type(whole)(model_operations=whole.model_operations)
    path.write_text(config_text(config), encoding="utf-8")
    client = connect(serve(folder, auto_complete=True))
    completed = client.config("minimal")
    assert (completed.input, completed.output) == (whole.input, whole.output)
    assert completed.max_batch_size == 4
    assert completed.HasField("dynamic_batching")
    for model in ("minimal", "python"):
        answer = client.infer(model, {digits.input: digits.images[:4]})[digits.output]
        np.testing.assert_array_equal(answer, digits.answer("ort", digits.images[:4]))


def test_metrics_carry_the_tags(server, client, digits):
    for form in FORMS:
        client.infer(form, {digits.input: digits.images[:2]})
    connection = http.client.HTTPConnection(server.metrics_url)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    lines = re.findall(r'nv_inference_request_success\{([^}]*model="(\w+)"[^}]*)\} (\d+)', text)
    found = {model: (labels, int(count)) for labels, model, count in lines}
    for form, precision in PRECISIONS.items():
        labels, count = found[form]
        assert f'_precision="{precision}"' in labels
        assert count > 0
    assert '_team="digits"' in found["cold"][0]
    assert '_precision="v1:fp32,v2:int8-ort"' in found["digits"][0]


def test_over_http_and_grpc_the_server_describes_the_model_alike(server, connect):
    described = [str(connect(server, protocol).metadata("ort")) for protocol in PROTOCOLS]
    assert described[0] == described[1]
    assert 'datatype: "FP32"' in described[0]
