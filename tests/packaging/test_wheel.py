"""The wheel: its tag, what is in it, and what the library asks of the system."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.slow]
REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ["ort_quant_plugin/libort_quant_ops.so", "ort_quant_plugin/libort_quant_deploy.so"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from a copy of the sources, as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns(".git", "__pycache__", ".venv", "build", "dist", ".*_cache")
    shutil.copytree(REPOSITORY, source, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "Could not find a version" in done.stderr:
        pytest.skip("the build requirements cannot be had (no package registry)")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request, wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(request.param, folder)
    return folder / request.param


def output(*command) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def test_one_wheel_serves_every_python(wheel):
    assert re.fullmatch(r"ort_quant_plugin-[\w.]+-py3-none-linux_\w+\.whl", wheel.name)


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert set(LIBRARIES) <= set(names)
    assert "ort_quant_plugin/demo/digits_cnn.onnx" in names
    assert "ort_quant_plugin/demo/digits.npz" in names
    assert "ort_quant_plugin/py.typed" in names
    top = {name.split("/")[0] for name in names}
    assert {t for t in top if not t.endswith(".dist-info")} == {"ort_quant_plugin"}
    assert not [n for n in names if "__pycache__" in n or n.endswith((".cc", ".h"))]


def test_a_library_exports_one_symbol(library):
    symbols = [line.split()[-1] for line in output("nm", "-D", "--defined-only", library).splitlines()]
    assert symbols == ["RegisterCustomOps"]


def test_a_library_does_not_need_onnxruntime(library):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", library))
    assert needed
    assert all(re.match(r"(libstdc\+\+|libgcc_s|libm|libc|ld-linux)", name) for name in needed)


def test_requirements_do_not_name_onnxruntime(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode()
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    hard = {re.match(r"[\w.-]+", r)[0].lower().replace("_", "-") for r in required if "extra ==" not in r}
    assert hard == {"onnx", "onnx-ir", "numpy", "protobuf", "pluggy", "click", "rich", "pillow", "joblib"}
    assert "Provides-Extra: cpu" in metadata
