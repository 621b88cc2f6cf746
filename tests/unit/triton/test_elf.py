"""What is read from a shared library without loading it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ort_quant_plugin.errors import OpLibraryError
from ort_quant_plugin.ops.library import get_library_path, onnxruntime_module
from ort_quant_plugin.triton.elf import read_library, version_key


@pytest.mark.parametrize("deploy", [False, True])
def test_our_libraries(deploy):
    facts = read_library(get_library_path(deploy=deploy))
    assert facts.registers
    assert facts.machine in {"EM_X86_64", "EM_AARCH64"}
    assert "libc.so.6" in facts.needed
    assert not [name for name in facts.needed if "onnxruntime" in name]
    for found, kind in ((facts.glibc, b"GLIBC"), (facts.glibcxx, b"GLIBCXX")):
        named = re.findall(rb"\0%s_([\d.]+)(?=\0)" % kind, facts.path.read_bytes())
        assert version_key(found) == max(version_key(version.decode()) for version in named)


def test_a_library_without_the_entry_point():
    capi = Path(onnxruntime_module().__file__).parent / "capi"
    (library,) = capi.glob("libonnxruntime_providers_shared.so")
    assert not read_library(library).registers


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF"])
def test_no_library(tmp_path, content):
    path = tmp_path / "libx.so"
    path.write_bytes(content)
    with pytest.raises(OpLibraryError, match="is no shared library"):
        read_library(path)


def test_a_truncated_library(tmp_path):
    path = tmp_path / "libx.so"
    with Path(get_library_path()).open("rb") as stream:
        path.write_bytes(stream.read(5000))
    with pytest.raises(OpLibraryError, match="is no shared library"):
        read_library(path)


def test_versions_are_compared_as_numbers():
    assert version_key("2.4") < version_key("2.35") < version_key("3.4.30")
    assert version_key("") < version_key("2")
