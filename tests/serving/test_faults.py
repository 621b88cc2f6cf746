"""What goes wrong in service: the server says why, lives on, and no answer is ever a wrong one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.ops.library import get_library_path
from ort_quant_plugin.triton.config import config_text, parse_config
from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions
from ort_quant_plugin.triton.repository import write_model

FORMS = ["float", "fake_quant", "deploy", "ort", "qdq"]
PROTOCOLS = ["http", "grpc"]
pytestmark = pytest.mark.slow


@contextmanager
def edited(folder: Path):
    """The configuration of a model, written back afterwards."""
    path = folder / "config.pbtxt"
    config = parse_config(path)
    yield config
    path.write_text(config_text(config), encoding="utf-8")


def set_libraries(*libraries: str):
    def _break(folder: Path):
        shutil.copyfile(get_library_path(), folder / "1" / "libort_quant_ops.so")
        (folder / "1" / "notes.txt").write_text("no library", encoding="utf-8")
        with edited(folder) as config:
            del config.model_operations.op_library_filename[:]
            config.model_operations.op_library_filename.extend(lib.replace("@", str(folder)) for lib in libraries)

    return _break


def set_config(change):
    def _break(folder: Path):
        with edited(folder) as config:
            change(config)

    return _break


def set_model(change):
    def _break(folder: Path):
        change(folder / "1" / "model.onnx")

    return _break


def set_dims(tensor, *dims):
    del tensor.dims[:]
    tensor.dims.extend(dims)


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_weights(path: Path):
    ir.save(ir.load(path), path, external_data="weights.bin")
    (path.parent / "weights.bin").unlink()


# What is broken → how, and what the server's reason must say.
BROKEN = {
    "library_missing": (set_libraries("/nowhere/libort_quant_ops.so"), "/nowhere/libort_quant_ops.so"),
    "library_bare_not_on_path": (set_libraries("libort_quant_ops.so"), "libort_quant_ops.so"),
    "library_relative": (set_libraries("./libort_quant_ops.so"), r"\./libort_quant_ops.so"),
    "library_in_version_folder": (set_libraries("1/libort_quant_ops.so"), "1/libort_quant_ops.so"),
    "library_is_none": (set_libraries("@/1/notes.txt"), "notes.txt"),
    "library_without_symbol": (set_libraries("libm.so.6"), "RegisterCustomOps"),
    "library_twice": (set_libraries("@/libort_quant_ops.so", "@/libort_quant_ops.so"), "already"),
    "library_not_listed": (set_libraries(), "is not a registered function/op"),
    "input_type": (set_config(lambda c: setattr(c.input[0], "data_type", 2)), "TYPE_UINT8.*image.*TYPE_FP32"),
    "input_shape": (set_config(lambda c: set_dims(c.input[0], 1, 8, 9)), r"image.*\[-1, ?1, ?8, ?9\]"),
    "input_rank": (set_config(lambda c: set_dims(c.input[0], 64)), r"image.*4 dimensions.*2 dimensions"),
    "input_name": (set_config(lambda c: setattr(c.input[0], "name", "picture")), "picture.*image"),
    "input_too_many": (set_config(lambda c: c.input.add(name="more", data_type=11, dims=[1])), "2 inputs.*provides 1"),
    "output_type": (set_config(lambda c: setattr(c.output[0], "data_type", 9)), "TYPE_INT64.*logits.*TYPE_FP32"),
    "output_shape": (set_config(lambda c: set_dims(c.output[0], 11)), r"logits.*\[-1, ?11\]"),
    "output_name": (set_config(lambda c: setattr(c.output[0], "name", "scores")), "scores.*logits"),
    "batch_axis": (set_config(lambda c: setattr(c, "max_batch_size", 0)), "image.*4 dimensions.*3 dimensions"),
    "threads": (
        set_config(lambda c: setattr(c.parameters["intra_op_thread_count"], "string_value", "many")),
        "many",
    ),
    "model_truncated": (set_model(truncate), "model.onnx"),
    "model_garbage": (set_model(lambda path: path.write_bytes(bytes(range(256)) * 40)), "model.onnx"),
    "model_empty": (set_model(lambda path: path.write_bytes(b"")), "model"),
    "model_missing": (set_model(Path.unlink), "unable to find .*model.onnx"),
    "model_without_weights": (set_model(lose_weights), "weights.bin"),
}


@pytest.fixture(scope="module")
def broken_repository(digits, tmp_path_factory):
    """A model for everything in BROKEN, and a healthy one."""
    folder = tmp_path_factory.mktemp("broken")
    for name, (damage, _) in BROKEN.items():
        write_model(digits.models["ort"], folder, RepositoryOptions(name, warmup=False, dynamic_batching=None))
        damage(folder / name)
    write_model(digits.models["ort"], folder, RepositoryOptions("ort"))
    return folder


@pytest.fixture(scope="module")
def broken_client(broken_repository, serve, connect):
    return connect(serve(broken_repository, tolerate_failures=True))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_says_why(name, broken_client):
    (state,) = (model for model in broken_client.index() if model.name == name)
    assert state.state == "UNAVAILABLE"
    assert re.search(BROKEN[name][1], state.reason)


def test_a_broken_model_refuses_at_once(broken_client, digits):
    start = time.monotonic()
    with pytest.raises(TritonError, match="library_missing"):
        broken_client.infer("library_missing", {digits.input: digits.images[:1]})
    assert time.monotonic() - start < 5  # no retrying


def test_beside_broken_models_others_are_served(broken_client, digits):
    answer = broken_client.infer("ort", {digits.input: digits.images[:8]})[digits.output]
    np.testing.assert_array_equal(answer, digits.answer("ort", digits.images[:8]))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("library", BROKEN["library_missing"][0], "failed to load 'library'.*/nowhere/libort_quant_ops.so"),
        ("field", lambda folder: append(folder / "config.pbtxt", "no_such_field: 1"), "no_such_field"),
        ("named", set_config(lambda c: setattr(c, "name", "another")), "named"),
    ],
)
def test_a_strict_server_does_not_start(name, damage, words, triton_environment, digits, tmp_path):
    from ort_quant_plugin.triton.server import DevServer

    write_model(digits.models["ort"], tmp_path / "repository", RepositoryOptions(name, warmup=False))
    damage(tmp_path / "repository" / name)
    server = DevServer(tmp_path / "repository", environment=triton_environment)
    with pytest.raises(TritonError, match=words):
        server.start()
    assert not server.running


def append(path: Path, line: str):
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def server(digits, serve, tmp_path_factory):
    """Healthy models in every form; `slow` lets requests wait three seconds for others."""
    folder = tmp_path_factory.mktemp("healthy")
    for form in FORMS:
        write_model(digits.models[form], folder, RepositoryOptions(form, warmup=False))
    write_model(digits.models["ort"], folder, RepositoryOptions("victim", backend="python", warmup=False))
    waiting = DynamicBatching(queue_delay_us=3_000_000)
    write_model(digits.models["ort"], folder, RepositoryOptions("slow", dynamic_batching=waiting, warmup=False))
    return serve(folder)


@pytest.fixture(scope="module")
def client(server, connect):
    return connect(server)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_stays_with_its_image(form, value, client, digits, same_runtime):
    """The answer is ONNX Runtime's own; the other images of the batch, and the next request, do not notice."""
    images = digits.images[:4].copy()
    images[1, 0, 3, 3] = value
    answer = client.infer(form, {digits.input: images})[digits.output]
    np.testing.assert_array_equal(answer, digits.answer(form, images))
    clean = digits.answer(form, digits.images[:4])
    np.testing.assert_array_equal(answer[[0, 2, 3]], clean[[0, 2, 3]])
    again = client.infer(form, {digits.input: digits.images[:4]})[digits.output]
    np.testing.assert_array_equal(again, clean)


BAD_REQUESTS = {
    "batch too large": (lambda images: {"image": images[:9]}, "batch-size must be <= 8"),
    "no batch axis": (lambda images: {"image": images[0]}, "image"),
    "shape": (lambda images: {"image": images[:2, :, :7]}, r"unexpected shape for input 'image'"),
    "type": (lambda images: {"image": images[:2].astype(np.float64)}, "data-?type.*FP64"),
    "name": (lambda images: {"picture": images[:2]}, "picture"),
    "nothing": (lambda _: {}, "expected 1 inputs but got 0"),
    "too many": (lambda images: {"image": images[:2], "more": images[:2]}, "expected 1 inputs but got 2"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused(name, protocol, server, connect, digits):
    make, words = BAD_REQUESTS[name]
    client = connect(server, protocol)
    with pytest.raises(TritonError, match=words):
        client.infer("ort", make(digits.images))
    answer = client.infer("ort", {digits.input: digits.images[:8]})[digits.output]
    np.testing.assert_array_equal(answer, digits.answer("ort", digits.images[:8]))


def test_an_unknown_model_or_version_is_refused(client, digits):
    for model, version in (("nobody", ""), ("ort", "7")):
        with pytest.raises(TritonError, match=model):
            client.infer(model, {digits.input: digits.images[:1]}, version=version)


def pending(server) -> dict[str, int]:
    """Requests that wait or run, by model."""
    connection = HTTPConnection(server.metrics_url)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.findall(r'nv_inference_pending_request_count\{[^}]*model="(\w+)"[^}]*\} (\d+)', text)
    return {model: int(count) for model, count in found}


def open_files(server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def http_request(server, model: str, image: np.ndarray) -> bytes:
    """A complete request as it goes over the wire."""
    import tritonclient.http as library

    tensor = library.InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    body, head = library.InferenceServerClient.generate_request_body([tensor])
    lines = [
        f"POST /v2/models/{model}/infer HTTP/1.1",
        f"Host: {server.http_url}",
        f"Content-Length: {len(body)}",
        f"Inference-Header-Content-Length: {head}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("part", ["head", "body", "whole"])
def test_http_clients_that_hang_up(wait_until, part, server, client, digits):
    """In the middle of a request, or while it waits for its answer: nothing is left behind."""
    made = client.statistics("slow")["1"].inferences + 8
    client.infer("slow", {digits.input: digits.images[:8]})
    assert wait_until(lambda: client.statistics("slow")["1"].inferences == made)
    before = open_files(server)
    request = http_request(server, "slow", digits.images[:1])
    sent = {"head": request[:60], "body": request[:-100], "whole": request}[part]
    host, port = server.http_url.split(":")
    for _ in range(24):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    if part == "whole":  # nobody tells the model: it runs them
        assert wait_until(lambda: client.statistics("slow")["1"].inferences == made + 24)
    assert wait_until(lambda: pending(server)["slow"] == 0)
    assert wait_until(lambda: open_files(server) <= before + 2)
    if part != "whole":
        assert client.statistics("slow")["1"].inferences == made
    answer = client.infer("slow", {digits.input: digits.images[:8]})[digits.output]
    np.testing.assert_array_equal(answer, digits.answer("ort", digits.images[:8]))


def test_grpc_clients_that_cancel(wait_until, server, client, digits):
    """A cancelled request leaves the queue without being run."""
    import tritonclient.grpc as library

    made = client.statistics("slow")["1"].inferences
    tensor = library.InferInput("image", [1, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(digits.images[:1])
    outcomes = []

    def finished(result, error):  # the names are the library's
        outcomes.append(error)

    with library.InferenceServerClient(server.grpc_url) as raw:
        calls = [raw.async_infer("slow", [tensor], finished) for _ in range(6)]
        assert wait_until(lambda: pending(server)["slow"] > 0, 2)
        for call in calls:
            call.cancel()
        assert wait_until(lambda: len(outcomes) == 6)
    assert all("cancelled" in str(error).lower() for error in outcomes)
    assert wait_until(lambda: pending(server)["slow"] == 0)
    assert client.statistics("slow")["1"].inferences == made
    answer = client.infer("slow", {digits.input: digits.images[:8]})[digits.output]
    np.testing.assert_array_equal(answer, digits.answer("ort", digits.images[:8]))


def test_bytes_that_are_no_request(server, client, digits):
    connection = HTTPConnection(server.http_url)
    for body, headers in (
        (b"{", {}),
        (b"\0" * 64, {}),
        (b'{"inputs": []}', {"Inference-Header-Content-Length": "9999"}),
        (b'{"inputs": 7}', {"Inference-Header-Content-Length": "-1"}),
    ):
        connection.request("POST", "/v2/models/ort/infer", body, headers)
        response = connection.getresponse()
        assert response.status in {400, 500}
        assert "error" in json.loads(response.read())
    connection.close()
    answer = client.infer("ort", {digits.input: digits.images[:8]})[digits.output]
    np.testing.assert_array_equal(answer, digits.answer("ort", digits.images[:8]))


def test_a_python_model_whose_process_dies(server, client, digits):
    """Readiness does not tell (servers before 26.04): probes have to ask for an inference. Others are not harmed."""
    feeds = {digits.input: digits.images[:8]}
    client.infer("victim", feeds)
    os.kill(model_process(server, "victim"), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(TritonError, match="victim"):
            client.infer("victim", feeds)
    assert client.is_ready("victim")
    np.testing.assert_array_equal(client.infer("ort", feeds)[digits.output], digits.answer("ort", digits.images[:8]))


def model_process(server, model: str) -> int:
    """Process id of the python backend's stub that runs a model."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            ours = f"PPid:\t{server.pid}\n" in (folder / "status").read_text()
            if ours and f"/{model}/1/" in (folder / "cmdline").read_text():
                return int(folder.name)
    raise AssertionError(f"no process runs {model}")


def test_killed_under_load(triton_environment, digits, load, tree, tmp_path):
    """Clients try again until it is back; no answer is wrong, and the repository is as it was."""
    from ort_quant_plugin.triton.server import DevServer

    repository = tmp_path / "repository"
    for form in ("ort", "qdq"):
        write_model(digits.models[form], repository, RepositoryOptions(form, warmup=False))
    before = tree(repository)
    with DevServer(repository, environment=triton_environment, auto_complete=False, log=tmp_path / "log") as server:
        prefix = server.shared_memory_prefix
        with load(server, ["ort", "qdq"]) as clients:
            assert clients.each_gets(20), clients.wrong
            os.kill(server.pid, signal.SIGKILL)
            assert server.wait() == -signal.SIGKILL
            assert list(Path("/dev/shm").glob(f"{prefix}*"))  # what a killed server leaves behind …
            server.start()  # … is gone, and it has its ports again
            assert clients.each_gets(20), clients.wrong
        assert not clients.wrong
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))
    assert tree(repository) == before


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_load_and_unload_without_growth(wait_until, serve, connect, digits, tmp_path_factory, soak_seconds):
    """50 rounds; 6 in a short run: memory, threads, files and shared memory stay what they were after the third."""
    folder = tmp_path_factory.mktemp("cycles")
    write_model(digits.models["ort"], folder, RepositoryOptions("ort", warmup=False))
    server = serve(folder, explicit=True)
    client = connect(server)
    assert [model.state for model in client.index()] == [""]
    expected = digits.answer("ort", digits.images[:8])
    rounds = 50 if soak_seconds > 60 else 6

    def measure():
        regions = len(list(Path("/dev/shm").glob(f"{server.shared_memory_prefix}*")))
        threads = len(list(Path(f"/proc/{server.pid}/task").iterdir()))
        return {"threads": threads, "files": open_files(server), "regions": regions}

    for number in range(rounds):
        client.load("ort")
        answer = client.infer("ort", {digits.input: digits.images[:8]})[digits.output]
        np.testing.assert_array_equal(answer, expected)
        client.unload("ort")
        assert wait_until(lambda: client.index()[0].state == "UNAVAILABLE")
        with pytest.raises(TritonError, match="ort"):
            client.infer("ort", {digits.input: digits.images[:1]})
        if number == 2:
            first, memory = measure(), resident_bytes(server.pid)
    assert wait_until(lambda: all(now <= first[name] for name, now in measure().items())), (first, measure())
    assert resident_bytes(server.pid) - memory < 16 * 2**20


def test_mixed_load_without_a_wrong_answer(wait_until, server, load, client, digits, soak_seconds):
    """All forms, both protocols, every batch size, and now and then a request that has to be refused."""
    memory = resident_bytes(server.pid)
    with load(server, FORMS) as clients:
        end = time.monotonic() + soak_seconds
        while time.monotonic() < end and not clients.wrong:
            with pytest.raises(TritonError, match="batch-size"):
                client.infer("ort", {digits.input: digits.images[:9]})
            clients.run(0.5)
        assert clients.each_gets(20), clients.wrong
    assert not clients.wrong
    assert wait_until(lambda: pending(server) == dict.fromkeys([*FORMS, "slow", "victim"], 0))
    assert resident_bytes(server.pid) - memory < 64 * 2**20
