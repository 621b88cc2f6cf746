"""The client against a real server: both protocols, and connections cut at every place."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.client import Statistics
from ort_quant_plugin.triton.client import connect as connect_to
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model

PROTOCOLS = ["http", "grpc"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(serve, digits, tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    write_model(digits.models["ort"], repository, RepositoryOptions("digits", warmup=False))
    return serve(repository)


@pytest.fixture
def client(server, request):
    protocol = getattr(request, "param", "http")
    with connect_to(server.grpc_url if protocol == "grpc" else server.http_url, protocol=protocol) as found:
        yield found


both = pytest.mark.parametrize("client", PROTOCOLS, indirect=True)


@both
def test_answers(client, digits):
    images = digits.images[:5]
    answer = client.infer("digits", {"image": images})
    assert list(answer) == ["logits"]
    assert np.array_equal(answer["logits"], digits.answer("ort", images))
    chosen = client.infer("digits", {"image": images[:1]}, outputs=["logits"], version="1")
    assert np.array_equal(chosen["logits"], answer["logits"][:1])


@both
def test_slices_and_transposed_arrays(client, digits):
    images = digits.images[:10][::2].transpose(0, 1, 3, 2)
    answer = client.infer("digits", {"image": images})
    assert np.array_equal(answer["logits"], digits.answer("ort", np.ascontiguousarray(images)))


def test_both_protocols_tell_the_same(server):
    with connect_to(server.http_url) as one, connect_to(server.grpc_url, protocol="grpc") as other:
        assert one.metadata("digits") == other.metadata("digits")
        assert one.config("digits") == other.config("digits")
        assert one.index() == other.index()
        assert one.statistics("digits") == other.statistics("digits")
        assert [(s.name, s.version, s.state) for s in one.index()] == [("digits", "1", "READY")]
        assert one.config("digits").max_batch_size == 8


@both
def test_statistics(client, digits):
    before = client.statistics("digits")["1"]
    for size in (1, 4):
        client.infer("digits", {"image": digits.images[:size]})
    found = client.statistics("digits")["1"] - before
    assert (found.inferences, found.executions, found.requests, found.failures) == (5, 2, 2, 0)
    assert found.infer_ns > 0
    assert found + before - before == found
    assert found != Statistics()


@both
@pytest.mark.parametrize(
    ("model", "feeds", "reason"),
    [
        ("nets", {"image": np.zeros((1, 1, 8, 8), np.float32)}, "unknown model"),
        ("digits", {"image": np.zeros((9, 1, 8, 8), np.float32)}, "batch-size must be <= 8"),
        ("digits", {"image": np.zeros((1, 1, 8, 9), np.float32)}, "unexpected shape for input 'image'"),
        ("digits", {"image": np.zeros((1, 1, 8, 8))}, "TYPE_FP32|data-type 'FP64'|FP64"),
        ("digits", {"picture": np.zeros((1, 1, 8, 8), np.float32)}, "picture"),
    ],
)
def test_refusals(client, model, feeds, reason):
    with pytest.raises(TritonError, match=reason) as failure:
        client.infer(model, feeds)
    assert str(client.address) in failure.value.message
    assert not failure.value.details["unreachable"]


@both
def test_missing_models_and_versions(client):
    assert client.is_ready()
    assert client.is_ready("digits")
    assert not client.is_ready("nets")
    client.wait_ready("digits", seconds=5)
    with pytest.raises(TritonError, match=r"Model 'nets' of .* is not ready after 0.2 s: the repository has no such"):
        client.wait_ready("nets", seconds=0.2)
    for ask in (client.metadata, client.config, client.statistics):
        with pytest.raises(TritonError, match=r"unknown model|is not available"):
            ask("nets")
    with pytest.raises(TritonError, match="version"):
        client.infer("digits", {"image": np.zeros((1, 1, 8, 8), np.float32)}, version="7")


@both
def test_model_control_is_off(client):
    with pytest.raises(TritonError, match="Unloading 'digits' failed"):
        client.unload("digits")
    with pytest.raises(TritonError, match="Loading 'digits' failed"):
        client.load("digits")


# Connections that break


@contextmanager
def proxy(url, *, cut, times=None):
    """Pass bytes to a server and back; the first `times` connections (default: all) end `cut` bytes into the answer."""
    host, port = url.split(":")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    ended = threading.Event()
    cuts = []

    def pump(source, target, limit):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data if limit is None else data[:limit])
                if limit is not None:
                    limit -= len(data)
                    if limit <= 0:
                        break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept():
        while not ended.is_set():
            try:
                near, _ = listening.accept()
            except TimeoutError:
                continue
            far = socket.create_connection((host, int(port)))
            cutting = times is None or len(cuts) < times
            cuts.append(cutting)
            sockets.extend((near, far))
            for arguments in [(near, far, None), (far, near, cut if cutting else None)]:
                thread = threading.Thread(target=pump, args=arguments, daemon=True)
                thread.start()
                threads.append(thread)

    sockets, threads = [], []
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        ended.set()
        accepting.join()
        for end in (listening, *sockets):
            end.close()
        for thread in threads:
            thread.join(5)


@pytest.mark.parametrize("cut", [1, 20, 200, 400])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cut_answer_is_never_taken(server, digits, protocol, cut):
    url = server.grpc_url if protocol == "grpc" else server.http_url
    images = digits.images[:8]  # an answer of more than 400 bytes
    with (
        proxy(url, cut=cut) as through,
        connect_to(through, protocol=protocol, timeout=5, patience=0.2) as client,
        pytest.raises(TritonError),
    ):
        client.infer("digits", {"image": images})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_connection_is_made_again(server, digits, protocol):
    url = server.grpc_url if protocol == "grpc" else server.http_url
    images = digits.images[:8]
    with (
        proxy(url, cut=1, times=4) as through,
        connect_to(through, protocol=protocol, timeout=5, patience=20) as client,
    ):
        answer = client.infer("digits", {"image": images})
    assert np.array_equal(answer["logits"], digits.answer("ort", images))
