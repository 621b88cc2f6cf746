"""The development server's environment: what is refused, and with which words; no server is needed for it."""

from __future__ import annotations

import platform
import re
import sys

import pytest

from ort_quant_plugin.errors import TritonError
from ort_quant_plugin.triton import environment
from ort_quant_plugin.triton.server import DevServer, ensure_environment


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("ORT_QUANT_TRITON_VENV", raising=False)


@pytest.fixture
def new_enough(monkeypatch):
    """A platform that could run the server, whatever this one is."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))


@pytest.mark.parametrize(
    ("libc", "words"),
    [(("glibc", "2.34"), "glibc 2.35 or newer, this machine has glibc 2.34"), (("", ""), "another C library")],
)
def test_an_old_c_library(libc, words, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(TritonError, match=words):
        ensure_environment()


def test_another_platform(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(TritonError, match="runs on Linux only, this is darwin"):
        ensure_environment()


@pytest.mark.usefixtures("new_enough")
def test_no_suitable_python(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "_PYTHONS", ("3.6",))
    with pytest.raises(TritonError, match=r"needs one of Python 3\.6 as a shared library: .* is Python 3\.\d+"):
        ensure_environment(tmp_path)


@pytest.mark.usefixtures("new_enough")
def test_a_named_folder_that_holds_something_else(monkeypatch, tmp_path):
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("ORT_QUANT_TRITON_VENV", str(tmp_path))
    with pytest.raises(TritonError, match="neither a virtual environment nor an empty folder"):
        ensure_environment()
    assert (tmp_path / "precious.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.usefixtures("new_enough")
def test_a_named_environment_without_the_server(monkeypatch, tmp_path):
    (tmp_path / "pyvenv.cfg").touch()
    monkeypatch.setenv("ORT_QUANT_TRITON_VENV", str(tmp_path))
    with pytest.raises(TritonError, match=re.escape(f"'{tmp_path}' cannot run the development server")):
        ensure_environment()


@pytest.mark.slow
@pytest.mark.usefixtures("new_enough")
def test_packages_that_cannot_be_had(monkeypatch, tmp_path):
    """pip's own reason is quoted, and nothing half-made stays."""
    monkeypatch.setattr(environment, "_SERVER_WHEEL", "nvidia-pytriton==0.0.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TritonError, match="No matching distribution found for nvidia-pytriton"):
        ensure_environment(tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_repository_that_is_not_there(tmp_path):
    with pytest.raises(TritonError, match="is not a folder"):
        DevServer(tmp_path / "nowhere")


def test_a_server_that_does_not_run(tmp_path):
    server = DevServer(tmp_path)
    assert not server.running
    assert server.stop() is None
    for attribute in ("pid", "http_url"):
        with pytest.raises(TritonError, match=r"start\(\)"):
            getattr(server, attribute)
