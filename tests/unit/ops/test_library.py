from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from ort_quant_plugin.errors import (
    ArgumentTypeError,
    ConfigError,
    OpLibraryError,
    RuntimeMissingError,
)
from ort_quant_plugin.ops import library


def test_override_names_the_file(monkeypatch, tmp_path):
    path = tmp_path / "mine.so"
    path.touch()
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(path))
    assert library.get_library_path() == str(path)


def test_override_that_is_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(tmp_path))
    with pytest.raises(OpLibraryError, match=r"ORT_QUANT_LIBRARY names .*not a file") as caught:
        library.get_library_path()
    assert caught.value.details["path"] == str(tmp_path)


def test_missing_library_tells_what_was_tried(monkeypatch, tmp_path):
    monkeypatch.delenv("ORT_QUANT_LIBRARY", raising=False)
    monkeypatch.setattr(library, "files", lambda _package: tmp_path)
    with pytest.raises(OpLibraryError, match=r"ORT_QUANT_LIBRARY is not set and .*libort_quant_ops\.so") as caught:
        library.get_library_path()
    assert "pip install" in caught.value.hint


def test_broken_library(monkeypatch, tmp_path):
    path = tmp_path / "broken.so"
    path.write_bytes(b"no shared object")
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(path))
    with pytest.raises(OpLibraryError, match=f"ONNX Runtime {ort.__version__} refused the custom-op library") as caught:
        library.session_options()
    assert caught.value.details["path"] == str(path)


def test_old_runtime(monkeypatch):
    monkeypatch.setattr(ort, "__version__", "1.16.3")
    with pytest.raises(OpLibraryError, match=r"needs ONNX Runtime 1\.17 or newer, but 1\.16\.3 is installed"):
        library.session_options()


@pytest.mark.parametrize("version", ["1.17.0", "1.31.1", "2.0.0", "nightly"])
def test_new_runtimes(monkeypatch, version):
    monkeypatch.setattr(ort, "__version__", version)
    library.session_options()


def test_no_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissingError, match="cannot be imported") as caught:
        library.onnxruntime_module()
    assert "ort-quant-plugin[cpu]" in caught.value.hint
    assert isinstance(caught.value, ImportError)


def test_session_options_are_fresh_and_set():
    level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options = library.session_options(intra_op_num_threads=1, graph_optimization_level=level)
    assert options.intra_op_num_threads == 1
    assert options.graph_optimization_level == level
    assert library.session_options() is not options
    assert library.session_options().intra_op_num_threads == 0


@pytest.mark.parametrize("name", ["threads", "register_custom_ops_library", "__class__"])
def test_unknown_attribute(name):
    with pytest.raises(ConfigError, match=f"no attribute '{name}'") as caught:
        library.session_options(**{name: 1})
    assert "intra_op_num_threads" in caught.value.hint


def test_attribute_of_wrong_type():
    with pytest.raises(ArgumentTypeError, match="intra_op_num_threads cannot be set to 'two' of type str"):
        library.session_options(intra_op_num_threads="two")


def test_the_deploy_library_lies_beside_the_other(monkeypatch, tmp_path):
    other = tmp_path / "libort_quant_deploy.so"
    (tmp_path / "mine.so").touch()
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(tmp_path / "mine.so"))
    with pytest.raises(OpLibraryError, match=r"beside the one that ORT_QUANT_LIBRARY names: .*libort_quant_deploy\.so"):
        library.get_library_path(deploy=True)
    other.touch()
    assert library.get_library_path(deploy=True) == str(other)
    monkeypatch.delenv("ORT_QUANT_LIBRARY")
    monkeypatch.setattr(library, "files", lambda _package: tmp_path)
    assert library.get_library_path(deploy=True) == str(other)


def test_both_libraries_are_registered():
    registered = []

    class Options:
        def register_custom_ops_library(self, path):
            registered.append(path)

    library.register_custom_ops(Options(), run_deploy_models=True)
    assert registered == [library.get_library_path(), library.get_library_path(deploy=True)]
    registered.clear()
    library.register_custom_ops(Options())
    assert registered == [library.get_library_path()]


@pytest.mark.parametrize("deploy", [False, True])
def test_one_symbol_is_exported(deploy):
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", library.get_library_path(deploy=deploy)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[-1] for line in listing.stdout.splitlines()] == ["RegisterCustomOps"]


@pytest.mark.parametrize("deploy", [False, True])
def test_no_link_to_onnxruntime(deploy):
    path = library.get_library_path(deploy=deploy)
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    needed = [line for line in dynamic.stdout.splitlines() if "NEEDED" in line]
    assert needed
    assert not [line for line in needed if "onnxruntime" in line]


def test_importing_the_module_does_not_import_onnxruntime():
    script = (
        "import sys, ort_quant_plugin.ops.library, ort_quant_plugin.ops.reference; "
        "sys.exit('onnxruntime' in sys.modules)"
    )
    root = Path(library.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
