"""Our declaration of ONNX Runtime's C ABI, compared slot by slot with the official 1.17 header.

The header is taken from the folder ``ORT_QUANT_ORT_HEADERS``, or from the ``amd-quark`` wheel on PyPI (downloaded
without dependencies, read, not kept in the project).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
OUR_HEADER = REPOSITORY / "custom_ops" / "include" / "ort_abi.h"
WHEEL = "amd-quark==0.13"
HEADER = "onnxruntime_c_api.h"

PROGRAM = """
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <type_traits>
#include "onnxruntime_c_api.h"
namespace ours {{
#include "ort_abi.h"
}}

int failures = 0;

void compare(const char* what, std::size_t expected, std::size_t found) {{
  if (expected == found) return;
  std::printf("%s: official %zu, ours %zu\\n", what, expected, found);
  ++failures;
}}

template <class T>
struct Arity;
template <class Result, class... Args>
struct Arity<Result (*)(Args...)> {{
  static constexpr std::size_t value = sizeof...(Args);
}};
template <class Result, class... Args>
struct Arity<Result (*)(Args...) noexcept> {{
  static constexpr std::size_t value = sizeof...(Args);
}};

int main() {{
{checks}
  std::printf("%d differences\\n", failures);
  return failures != 0;
}}
"""


@pytest.fixture(scope="module")
def official_headers(tmp_path_factory) -> Path:
    given = os.environ.get("ORT_QUANT_ORT_HEADERS")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the official header is not at hand: pip cannot download {WHEEL}: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        member = next(name for name in archive.namelist() if name.endswith(f"/{HEADER}"))
        (folder / HEADER).write_bytes(archive.read(member))
    return folder


def test_every_slot_field_and_value(official_headers, tmp_path):
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler (c++, or CXX)")
    ours = OUR_HEADER.read_text(encoding="utf-8")
    slots = re.findall(r"^using (\w+) =\s+Slot<", ours, re.MULTILINE)
    struct = ours[ours.index("struct OrtCustomOp {") : ours.index("struct OrtCustomOp18")]
    fields = re.findall(r"\(\*(\w+)\)\(", struct)
    enumerators = re.findall(r"\b([A-Z][A-Za-z0-9_]+) = \d+\b", ours[: ours.index("struct OrtStatus")])
    assert len(slots) > 20
    assert len(fields) == 21
    assert len(enumerators) > 12

    checks = [f'  compare("{n}", offsetof(OrtApi, {n}) / sizeof(void*), ours::ort_abi::{n}::index);' for n in slots]
    checks += [
        f'  compare("arity of {n}", Arity<decltype(OrtApi::{n})>::value, ours::ort_abi::{n}::arity);' for n in slots
    ]
    checks += [
        f'  compare("{n}", offsetof(OrtCustomOp, {n}), offsetof(ours::OrtCustomOp, {n}));' for n in ("version", *fields)
    ]
    checks += [
        f'  compare("arity of {n}", Arity<decltype(OrtCustomOp::{n})>::value, '
        f"Arity<decltype(ours::OrtCustomOp::{n})>::value);"
        for n in fields
    ]
    checks += [f'  compare("{n}", {n}, ours::{n});' for n in enumerators]
    checks += [
        '  compare("size of OrtCustomOp", sizeof(OrtCustomOp), sizeof(ours::OrtCustomOp));',
        '  compare("GetApi", offsetof(OrtApiBase, GetApi), offsetof(ours::OrtApiBase, GetApi));',
        '  compare("version", offsetof(OrtApiBase, GetVersionString), offsetof(ours::OrtApiBase, GetVersionString));',
        '  compare("API version", ORT_API_VERSION, ours::ort_abi::kApiVersion);',
    ]
    source, program = tmp_path / "conformance.cc", tmp_path / "conformance"
    source.write_text(PROGRAM.format(checks="\n".join(checks)), encoding="utf-8")
    includes = [f"-I{OUR_HEADER.parent}", f"-I{official_headers}"]
    command = [compiler, "-std=c++17", "-w", *includes, str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout == "0 differences\n"
