"""Connections that fail: no server, a silent one, one that is none, one that hangs up."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pytest

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.client import connect
from ort_quant_plugin.triton.wire import pauses

pytest.importorskip("tritonclient")

PROTOCOLS = ["http", "grpc"]
FEEDS = {"x": np.zeros((1, 2), np.float32)}


@contextmanager
def listener(answer):
    """A port of this machine; `answer` gets each connection, in its own thread."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=handle, args=[connection], daemon=True).start()

    def handle(connection):
        with connection:
            answer(connection, ended)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        ended.set()
        thread.join()
        server.close()


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_server(protocol):
    with connect(free_address(), protocol=protocol, patience=0.3) as client:
        started = time.monotonic()
        with pytest.raises(TritonError, match="Inference with 'net' failed at") as failure:
            client.infer("net", FEEDS)
        assert 0.3 <= time.monotonic() - started < 3
        assert failure.value.details["unreachable"]
        assert not client.is_ready()
        with pytest.raises(TritonError, match=r"is not ready after 0.1 s: Repository index failed"):
            client.wait_ready(seconds=0.1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_that_must_not_be_repeated(protocol):
    with connect(free_address(), protocol=protocol, patience=30) as client:
        started = time.monotonic()
        with pytest.raises(TritonError):
            client.infer("net", FEEDS, retry=False)
        assert time.monotonic() - started < 5


@contextmanager
def silent_grpc_server():
    """Takes any call and does not answer it."""
    import grpc

    ended = threading.Event()

    class Handler(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(lambda *_: ended.wait(10) and b"")

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        ended.set()
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("protocol", "silent"),
    [("http", lambda: listener(lambda _, ended: ended.wait(10))), ("grpc", silent_grpc_server)],
)
def test_silent_server(protocol, silent):
    with (
        silent() as url,
        connect(url, protocol=protocol, timeout=0.3, patience=30) as client,
        pytest.raises(TritonError, match=r"no answer within 0.3 s") as failure,
    ):
        client.infer("net", FEEDS)
    assert not failure.value.details["unreachable"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_something_else_answers(protocol):
    def answer(connection, _):
        connection.recv(4096)
        connection.sendall(b"220 mail.example.org ESMTP\r\n")

    with (
        listener(answer) as url,
        connect(url, protocol=protocol, timeout=2, patience=0) as client,
        pytest.raises(TritonError, match="failed at"),
    ):
        client.infer("net", FEEDS)


def http_answer(status, body, length=None):
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (http_answer("200 OK", b'{"outputs":[{"name":"y","da', length=4000), "connection failed|damaged"),
        (http_answer("200 OK", b'{"outputs":[{"name":"y","da'), "damaged or incomplete"),
        (http_answer("200 OK", b'{"outputs":[]}'), "it has no output 'y'"),
        (
            http_answer("200 OK", b'{"outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[1.0]}]}'),
            "damaged or incomplete",
        ),
        (http_answer("500 Internal Server Error", b'{"error":"the operator refused"}'), "the operator refused"),
        (http_answer("502 Bad Gateway", b"<html>no backend</html>"), "no backend"),
    ],
)
def test_answers_that_are_none(text, message):
    def answer(connection, _):
        connection.recv(65536)
        connection.sendall(text)

    with (
        listener(answer) as url,
        connect(url, timeout=2, patience=0) as client,
        pytest.raises(TritonError, match=message),
    ):
        client.infer("net", FEEDS, outputs=["y"])


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
def test_a_busy_server_is_asked_again(status):
    asked = []

    def answer(connection, _):
        connection.recv(65536)
        asked.append(1)
        good = b'{"outputs":[{"name":"y","datatype":"INT32","shape":[2],"data":[3,4]}]}'
        connection.sendall(http_answer(status, b'{"error":"busy"}') if len(asked) < 3 else http_answer("200 OK", good))

    with listener(answer) as url, connect(url, patience=10) as client:
        answer = client.infer("net", FEEDS)
    assert answer["y"].tolist() == [3, 4]
    assert answer["y"].dtype == np.int32
    assert len(asked) == 3


def test_types_triton_does_not_know():
    with (
        connect("localhost") as client,
        pytest.raises(TritonError, match="Input 'x' has dtype complex64, which Triton does not know"),
    ):
        client.infer("net", {"x": np.zeros(1, np.complex64)})


def test_pauses_grow_to_a_second():
    found = list(islice(pauses(), 30))
    assert found[0] < 0.1
    assert all(0.5 <= pause <= 1.5 for pause in found[5:])
    assert len({round(pause, 6) for pause in found[5:]}) > 10
