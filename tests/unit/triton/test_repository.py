"""Repositories: what is written where, versions side by side, nothing half-written."""

from __future__ import annotations

import filecmp
import os
import resource
import stat

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError, ModelError, OpLibraryError, OutputError, TritonError, UnsupportedError
from ort_quant_plugin.ops.library import get_library_path
from ort_quant_plugin.triton.config import parse_config
from ort_quant_plugin.triton.options import RepositoryOptions
from ort_quant_plugin.triton.repository import write_model, write_versions

OPS, DEPLOY = "libort_quant_ops.so", "libort_quant_deploy.so"
FOREIGN = """<ir_version: 8, opset_import: ["": 17, "acme": 1]>
g (float[N,3] x) => (float[N,3] y) { y = acme.Do(x) }"""
LINEAR = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3] x) => (float[N,400] y) { y = MatMul(x, w) }"""


@pytest.fixture
def write(digits, tmp_path):
    """Write one form of the digits network into the test's repository."""

    def _write(form, name="net", *, force=False, **options):
        return write_model(digits[form], tmp_path / "models", RepositoryOptions(name, **options), force=force)

    return _write


@pytest.mark.parametrize(
    ("form", "libraries"),
    [
        ("float", []),
        ("qdq", []),
        ("fake_quant", [OPS]),
        ("ort", [OPS]),
        ("deploy", [OPS, DEPLOY]),
        ("calibration", [OPS]),
    ],
)
def test_layout(write, digits, tmp_path, tree, form, libraries):
    written = write(form)
    folder = tmp_path / "models" / "net"
    assert set(tree(tmp_path / "models")) == {f"net/{name}" for name in ("config.pbtxt", "1/model.onnx", *libraries)}
    assert written.files == tuple(sorted(folder / name for name in ("config.pbtxt", "1/model.onnx", *libraries)))
    assert filecmp.cmp(digits[form], written.model, shallow=False)
    for name in libraries:
        assert filecmp.cmp(get_library_path(deploy=name == DEPLOY), folder / name, shallow=False)
    config = parse_config(written.config)
    assert list(config.model_operations.op_library_filename) == [str(folder.resolve() / name) for name in libraries]
    assert list(written.library_paths) == list(config.model_operations.op_library_filename)
    assert config.metric_tags["precision"] == written.precision
    assert written.notes == ()


def test_other_users_may_read_it(write):
    mask = os.umask(0o022)
    try:
        written = write("ort")
    finally:
        os.umask(mask)
    for path in (written.folder.parent, written.folder, written.model.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.files} == {0o644}


def test_a_version_is_not_overwritten(write, tmp_path, tree):
    write("float")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        write("ort")
    assert tree(tmp_path) == before
    write("ort", force=True)
    assert parse_config(tmp_path / "models/net/config.pbtxt").metric_tags["precision"] == "int8-ort"
    assert (tmp_path / "models/net/1/model.onnx").read_bytes() != before["models/net/1/model.onnx"]
    assert not [path for path in (tmp_path / "models").iterdir() if path.name.startswith(".")]


def test_two_versions(write, tmp_path):
    write("float", threads=4)
    written = write("ort", version=2)
    config = parse_config(written.config)
    assert {p.name for p in written.folder.iterdir()} == {"1", "2", "config.pbtxt", OPS}
    assert config.metric_tags["precision"] == "v1:fp32,v2:int8-ort"
    assert list(config.model_operations.op_library_filename) == [str(written.folder.resolve() / OPS)]
    assert config.version_policy.HasField("all")
    assert config.parameters["intra_op_thread_count"].string_value == "4"  # the first version's
    assert written.notes == (f"{written.config} keeps its own parameters; --force writes it anew.",)
    assert written.files == tuple(sorted(written.folder / name for name in ("config.pbtxt", OPS, "2/model.onnx")))


def test_hand_made_changes_survive_another_version(write):
    written = write("float")
    config = written.config.read_text()
    written.config.write_text(
        config.replace("max_queue_size: 256", "max_queue_size: 7") + "model_transaction_policy { decoupled: true }\n"
    )
    again = write("fake_quant", version=3)
    kept = parse_config(again.config)
    assert kept.dynamic_batching.default_queue_policy.max_queue_size == 7
    assert kept.HasField("model_transaction_policy")
    assert kept.optimization.graph.level == 2
    assert "Graph optimization is off for all versions" in again.notes[0]
    assert "dynamic_batching, model_transaction_policy" in again.notes[1]


def test_write_versions(digits, tmp_path):
    first, second = write_versions({2: digits["ort"], 1: digits["float"]}, tmp_path, RepositoryOptions("net"))
    assert (first.version, first.precision, second.version, second.precision) == (1, "fp32", 2, "int8-ort")
    assert second.notes == ()


def test_versions_that_do_not_fit_are_refused(write, digits, save, tmp_path, tree):
    write("float")
    before = tree(tmp_path)
    other = save(LINEAR, w=np.ones((3, 400), np.float32))
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="Versions 1 and 2 differ in their inputs"):
        write_model(other, tmp_path / "models", RepositoryOptions("net", version=2))
    with pytest.raises(ConfigError, match="served by backend 'onnxruntime'; a version cannot have another"):
        write("ort", version=2, backend="python")
    assert tree(tmp_path) == before


def test_a_folder_of_somebody_elses_making(write, tmp_path):
    (tmp_path / "models/net/1").mkdir(parents=True)
    with pytest.raises(TritonError, match=r"1 holds no model\.onnx"):
        write("float", version=2)


def test_external_data(save, tmp_path):
    model = save(LINEAR, external=True, w=np.ones((3, 400), np.float32))
    written = write_model(model, tmp_path / "models", RepositoryOptions("net"))
    (data,) = (path for path in model.parent.iterdir() if path != model)
    assert {path.name for path in written.model.parent.iterdir()} == {"model.onnx", data.name}
    assert filecmp.cmp(data, written.model.parent / data.name, shallow=False)


def test_foreign_operators_need_their_library(save, tmp_path):
    model = save(FOREIGN)
    with pytest.raises(UnsupportedError, match="operators of acme, which no given library implements"):
        write_model(model, tmp_path / "models", RepositoryOptions("net"))
    assert not (tmp_path / "models").exists()
    written = write_model(model, tmp_path / "models", RepositoryOptions("net", op_libraries=("/opt/libacme.so",)))
    assert written.library_paths == ("/opt/libacme.so",)
    plain = save(FOREIGN.replace("acme.Do", "Relu"), "plain.onnx")
    again = write_model(plain, tmp_path / "models", RepositoryOptions("net", version=2))
    assert again.library_paths == ("/opt/libacme.so",)  # the first version goes on needing it


def test_bare_names(write, tmp_path, tree):
    written = write("ort", ops_path="bare")
    assert set(tree(tmp_path / "models")) == {"net/config.pbtxt", "net/1/model.onnx"}
    assert written.library_paths == (OPS,)
    assert "LD_LIBRARY_PATH" in written.notes[0]


def test_python_backend(write, tmp_path, tree):
    written = write("ort", backend="python")
    assert set(tree(tmp_path / "models/net")) == {"config.pbtxt", "1/model.onnx", "1/model.py", OPS}
    config = parse_config(written.config)
    assert config.parameters["op_library_filename"].string_value == OPS
    assert not config.HasField("model_operations")


def test_calibration_that_writes_its_own_record(write):
    """AMCT's operators; the others hand out sketches."""
    written = write("recording")
    assert (written.precision, written.max_batch) == ("calibration", 0)
    assert "write the record on the server" in written.notes[0]


def test_notes(save, tmp_path):
    text = LINEAR.replace("float[N,3] x", "float[1,M] x").replace("float[N,400]", "float[1,400]")
    written = write_model(save(text, w=np.ones((3, 400), np.float32)), tmp_path / "models", RepositoryOptions("net"))
    assert written.max_batch == 0
    assert ["no free batch axis" in written.notes[0], "No warm-up" in written.notes[1]] == [True, True]


def test_failures_leave_nothing_behind(write, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("ORT_QUANT_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(OpLibraryError):
        write("ort")
    with pytest.raises(ModelError):
        write_model(tmp_path / "none.onnx", tmp_path / "models", RepositoryOptions("net"))
    assert not (tmp_path / "models").exists()


def test_a_full_disk(write, tmp_path, tree):
    """The library is larger than what may be written: neither a new name nor a new version is left half-written."""
    write("float")
    before, limits = tree(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        for name, version in (("other", 1), ("net", 2)):
            with pytest.raises(OutputError, match=r"Cannot write .*File too large"):
                write("ort", name, version=version)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert tree(tmp_path) == before
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["net"]


def test_a_disk_that_cannot_be_written(write, tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write") as caught:
        write("float")
    assert caught.value.message.count("Cannot write") == 1
    assert "Hint" not in caught.value.message


def test_a_replaced_library_is_said(write):
    written = write("ort")
    (written.folder / OPS).write_bytes(b"old")
    assert "keep it until they restart" in write("ort", version=2).notes[-1]
    assert (written.folder / OPS).stat().st_size > 1000


def test_a_library_keeps_the_path_the_first_version_gave_it(write):
    """Named by two paths it would be registered twice, which ONNX Runtime refuses."""
    write("ort", ops_path="kserve")
    written = write("fake_quant", version=2)
    assert written.library_paths == ("/mnt/models/net/" + OPS,)
    assert "model_operations" in written.notes[-1]
