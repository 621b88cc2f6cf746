"""``ort-quant triton serve``: one command to a prediction, and nothing left behind when it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model

pytestmark = pytest.mark.slow
FREE_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


class Command:
    """A running ``ort-quant triton serve``."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "ort_quant_plugin", "triton", "serve", *arguments, *FREE_PORTS]
        self.output, self.errors = folder / "stdout.txt", folder / "stderr.txt"
        with self.output.open("w") as stdout, self.errors.open("w") as stderr:
            self.process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=stderr, start_new_session=True)

    def read_until(self, pattern: str, seconds: float = 60) -> str:
        """What it prints, as soon as a line of it matches."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            text = self.output.read_text()
            if re.search(pattern, text, re.MULTILINE):
                return text
            if ended:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in {self.output.read_text()!r}; errors: {self.errors.read_text()!r}")

    def end(self, number: int) -> int:
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def alive(url: str) -> bool:
    """Whether a server answers there."""
    connection = http.client.HTTPConnection(url, timeout=5)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_demo_prints_a_prediction(triton_environment, tmp_path):
    with Command(tmp_path, "--dev", "--demo") as command:
        text = command.read_until("curl")
        predictions = re.findall(r"(digits_\w+) +(\d) +(\d)", text)
        assert [model for model, _, _ in predictions] == [
            "digits_float",
            "digits_fake_quant",
            "digits_qdq",
            "digits_int8",
        ]
        assert all(digit == true for _, digit, true in predictions)
        url, path, request = re.search(r"curl -s http://(\S+?)(/\S+) -d '(.*)'", text).groups()
        connection = http.client.HTTPConnection(url)
        connection.request("POST", path, request)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        scores = answer["outputs"][0]["data"]
        assert scores.index(max(scores)) == int(predictions[0][2])
        assert command.end(signal.SIGINT) == 0
        assert "Traceback" not in command.errors.read_text()
    assert not alive(url)


def test_json_and_sigterm(triton_environment, digits, tmp_path):
    write_model(digits.models["ort"], tmp_path / "repository", RepositoryOptions("ort", warmup=False))
    with Command(tmp_path, "--dev", "repository", "--json", "--explicit", "--log", "logs/server.log") as command:
        document = json.loads(command.read_until("^}$"))
        assert document["schema"] == "ort-quant/triton-serve/1"
        assert document["models"] == [{"name": "ort", "version": "", "state": "", "reason": ""}]
        server = document["pid"]
        assert command.end(signal.SIGTERM) == 0
    assert "Started HTTPService" in (tmp_path / "logs" / "server.log").read_text()
    assert not Path(f"/proc/{server}").exists()
    assert not list(Path("/dev/shm").glob(f"ort_quant_{command.process.pid}_*"))


def test_a_server_that_dies_is_an_error(triton_environment, digits, tmp_path):
    write_model(digits.models["ort"], tmp_path / "repository", RepositoryOptions("ort", warmup=False))
    with Command(tmp_path, "--dev", "repository", "--json", "--explicit") as command:
        os.kill(json.loads(command.read_until("^}$"))["pid"], signal.SIGKILL)
        assert command.process.wait(60) == 2
        assert "ended by itself with code -9" in command.errors.read_text()


def test_the_server_does_not_outlive_its_starter(triton_environment, digits, wait_until, tmp_path, monkeypatch):
    """Even one that is killed and can clean up nothing."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    write_model(digits.models["ort"], tmp_path / "repository", RepositoryOptions("ort", warmup=False))
    with Command(tmp_path, "--dev", "repository", "--json") as command:
        url = json.loads(command.read_until("^}$"))["http"].removeprefix("http://")
        assert alive(url)
        assert list(temporary.glob("ort-quant-*"))
        command.end(signal.SIGKILL)
    assert wait_until(lambda: not alive(url), 20)
    assert wait_until(lambda: not list(temporary.glob("ort-quant-*")), 20)
    assert not list(Path("/dev/shm").glob(f"ort_quant_{command.process.pid}_*"))


def test_an_orderly_stop(triton_environment, digits, tmp_path):
    from ort_quant_plugin.triton.server import DevServer

    write_model(digits.models["ort"], tmp_path, RepositoryOptions("ort", warmup=False))
    server = DevServer(tmp_path, environment=triton_environment, auto_complete=False).start()
    assert alive(server.http_url)
    assert server.stop() == 0
    assert not server.running


def test_a_port_that_is_taken(triton_environment, digits, serve, tmp_path):
    from ort_quant_plugin.triton.server import DevServer

    write_model(digits.models["qdq"], tmp_path, RepositoryOptions("qdq", warmup=False))
    server = serve(tmp_path, explicit=True)
    port = int(server.http_url.split(":")[1])
    with pytest.raises(TritonError, match=f"Port {port} of 127.0.0.1 for http cannot be had"):
        DevServer(tmp_path, environment=triton_environment, http_port=port).start()


def test_libraries_are_found_by_bare_name(triton_environment, digits, serve, connect, tmp_path_factory):
    """`--ops-path bare` with the library's folder on the loader's path."""
    from ort_quant_plugin.ops.library import get_library_path

    folder = tmp_path_factory.mktemp("bare")
    write_model(digits.models["ort"], folder, RepositoryOptions("ort", ops_path="bare", warmup=False))
    server = serve(folder, library_path=[Path(get_library_path()).parent])
    answer = connect(server).infer("ort", {digits.input: digits.images[:4]})[digits.output]
    assert (answer == digits.answer("ort", digits.images[:4])).all()
