"""Reading and writing model files: every way a file can be wrong, and external data."""

from __future__ import annotations

import os

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin import model as model_module
from ort_quant_plugin.errors import ModelError, OutputError, UnsupportedError
from ort_quant_plugin.model import (
    check_domains,
    const_array,
    input_specs,
    read_model,
    refuse_existing,
    replace_constant,
    write_model,
)

TEXT = """<ir_version: 8, opset_import: ["": 13]>
g (float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }"""
W = np.arange(3 * 400, dtype=np.float32).reshape(3, 400)


@pytest.fixture
def model(build):
    return build(TEXT.replace("N,4] y", "N,400] y"), w=W)


def test_round_trip(model, tmp_path):
    (path,) = write_model(model, tmp_path / "new" / "m.onnx")
    again = read_model(path)
    np.testing.assert_array_equal(const_array(again.graph.initializers["w"]), W)
    assert [p.name for p in path.parent.iterdir()] == ["m.onnx"]


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="does not exist") as caught:
        read_model(tmp_path / "no.onnx")
    assert caught.value.hint


def test_folder(tmp_path):
    with pytest.raises(ModelError, match="is not a file"):
        read_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello world", os.urandom(1000), b"\x08\x08"])
def test_not_onnx(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        read_model(path)


def test_truncated_file(model, tmp_path):
    (path,) = write_model(model, tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="not a readable ONNX model"):
        read_model(path)


def test_external_data_is_one_file_per_tensor(model, tmp_path):
    path, data = write_model(model, tmp_path / "m.onnx", external_suffix="_deploy.external", force_external=True)
    assert data.name == "m_w_deploy.external"
    np.testing.assert_array_equal(const_array(read_model(path).graph.initializers["w"]), W)


def test_external_data_above_the_threshold(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model_module, "EXTERNAL_THRESHOLD", 1000)
    assert len(write_model(model, tmp_path / "m.onnx")) == 2


def test_external_data_can_be_embedded_again(model, tmp_path):
    path, data = write_model(model, tmp_path / "m.onnx", force_external=True)
    write_model(read_model(path), tmp_path / "other" / "m.onnx")
    data.unlink()
    np.testing.assert_array_equal(const_array(read_model(tmp_path / "other" / "m.onnx").graph.initializers["w"]), W)


def test_missing_external_data(model, tmp_path):
    path, data = write_model(model, tmp_path / "m.onnx", force_external=True)
    data.unlink()
    with pytest.raises(ModelError, match=r"Tensor 'w' .* does not exist"):
        read_model(path)


def test_truncated_external_data(model, tmp_path):
    path, data = write_model(model, tmp_path / "m.onnx", force_external=True)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"truncated: tensor 'w' needs 4800 bytes, the file has 4799"):
        read_model(path)


def test_unwritable_target(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        write_model(model, tmp_path / "file" / "m.onnx")


def test_a_failed_write_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ort_quant_plugin.model.write_model_proto", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_model(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unknown_domain(build):
    model = build("""<ir_version: 8, opset_import: ["": 13, "acme": 1]>
    g (float[N] x) => (float[N] y) { y = acme.Magic(x) }""")
    next(iter(model.graph)).name = "wand"
    with pytest.raises(UnsupportedError, match=r"acme::Magic \(node 'wand'\)") as caught:
        check_domains(model)
    assert "--op-library" in caught.value.hint
    check_domains(model, op_libraries=["libacme.so"])


def test_input_specs(build):
    model = build(
        """<ir_version: 8, opset_import: ["": 13]>
    g (float[N,3,?,8] x, int64[2] n, float[3] w) => (float[] y) { y = Identity(x) }""",
        w=np.zeros(3, np.float32),
    )
    specs = input_specs(model)
    assert [(s.name, s.dtype, s.shape) for s in specs] == [
        ("x", np.float32, ("N", 3, None, 8)),
        ("n", np.int64, (2,)),
    ]


def test_replacing_a_shared_constant_leaves_the_other_user_alone(build):
    model = build(
        """<ir_version: 8, opset_import: ["": 13]>
    g (float[N,3] x) => (float[] y, float[] z) { y = MatMul(x, w) z = Mul(x, w) }""",
        w=np.ones((3, 3), np.float32),
    )
    first, second = model.graph
    first.name = "first"
    replace_constant(first, 1, np.zeros((3, 3), np.float32))
    assert not const_array(first.inputs[1]).any()
    assert const_array(second.inputs[1]).all()


def test_replacing_a_private_constant_keeps_its_name(build):
    model = build(TEXT, w=np.ones((3, 4), np.float32))
    (node,) = model.graph
    replace_constant(node, 1, np.zeros((3, 4), np.int8))
    assert list(model.graph.initializers) == ["w"]
    assert const_array(model.graph.initializers["w"]).dtype == np.int8


def test_refuse_existing(tmp_path):
    file = tmp_path / "a"
    refuse_existing([file], force=False)
    file.touch()
    refuse_existing([file], force=True)
    with pytest.raises(OutputError, match="exists already") as caught:
        refuse_existing([file], force=False)
    assert "--force" in caught.value.hint


def test_an_input_is_never_overwritten(tmp_path):
    file = tmp_path / "a"
    file.touch()
    with pytest.raises(OutputError, match="is also an input"):
        refuse_existing([tmp_path / "x" / ".." / "a"], inputs=[file, None], force=True)


def test_two_outputs_cannot_be_one_file(tmp_path):
    with pytest.raises(OutputError, match="named for two outputs"):
        refuse_existing([tmp_path / "a", tmp_path / "a"], force=True)


def test_models_in_one_folder_do_not_share_external_files(build, tmp_path):
    first = build(TEXT.replace("N,4] y", "N,400] y"), w=W)
    second = build(TEXT.replace("N,4] y", "N,400] y"), w=-W)
    write_model(first, tmp_path / "first.onnx", force_external=True)
    write_model(second, tmp_path / "second.onnx", force_external=True)
    np.testing.assert_array_equal(const_array(read_model(tmp_path / "first.onnx").graph.initializers["w"]), W)


def test_modes_are_amct_s(model, tmp_path):
    old = os.umask(0o022)
    try:
        files = write_model(model, tmp_path / "new" / "m.onnx", force_external=True)
    finally:
        os.umask(old)
    assert {oct(f.stat().st_mode & 0o777) for f in files} == {"0o640"}
    assert oct((tmp_path / "new").stat().st_mode & 0o777) == "0o750"


def test_sparse_constants_are_refused_by_name(model, tmp_path):
    import onnx

    proto = ir.to_proto(model)
    values = onnx.TensorProto(name="s", data_type=1, dims=[1], float_data=[1.0])
    indices = onnx.TensorProto(data_type=7, dims=[1], int64_data=[0])
    proto.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[4]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="'s' in sparse form"):
        read_model(tmp_path / "m.onnx")
