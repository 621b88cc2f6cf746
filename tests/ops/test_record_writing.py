"""Many writers of one record file: nodes of a session in parallel, sessions, processes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

LAYERS = [f"layer{i}" for i in range(24)]


def many_nodes(path, layers, op="IFMR"):
    nodes = "".join(
        f's{i} = amct.customop.{op} <record_file_path: string = "{path}", object_layer0: string = "{layer}"> (x)\n'
        for i, layer in enumerate(layers)
    )
    return f"g (float[N] x) => (float[N] y) {{ y = Identity (x)\n{nodes}}}"


@pytest.mark.parametrize("op", ["IFMR", "HFMG"])
def test_nodes_in_parallel(make_session, record_file, tmp_path, op):
    path = record_file(*LAYERS)
    session = make_session(
        many_nodes(path, LAYERS, op),
        execution_mode=ort.ExecutionMode.ORT_PARALLEL,
        inter_op_num_threads=4,
        intra_op_num_threads=2,
    )
    session.run(None, {"x": np.linspace(-1, 1, 50000, dtype=np.float32)})
    text = path.read_text()
    assert text.count("scale_d: ") == len(LAYERS) == text.count('act_type: "INT8"')
    assert len({line for line in text.splitlines() if "scale_d" in line}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["record.txt"]


def test_processes(record_file, tmp_path):
    path = record_file(*LAYERS)
    script = (
        "import sys, numpy as np, onnx_ir as ir, onnxruntime as ort\n"
        "from ort_quant_plugin.ops.library import session_options\n"
        'text = \'<ir_version: 8, opset_import: ["": 17, "amct.customop": 1]>\' + sys.argv[1]\n'
        "model = ir.to_proto(ir.from_onnx_text(text)).SerializeToString()\n"
        "session = ort.InferenceSession(model, session_options(), providers=['CPUExecutionProvider'])\n"
        "session.run(None, {'x': np.linspace(-1, 1, 1000, dtype=np.float32)})\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, many_nodes(path, LAYERS[i::3])],
            stderr=subprocess.PIPE,
            cwd=tmp_path,  # not the source tree, which would hide the installed package
        )
        for i in range(3)
    ]
    errors = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], errors
    assert path.read_text().count("scale_d: ") == len(LAYERS)
    assert [p.name for p in tmp_path.iterdir()] == ["record.txt"]


@pytest.mark.parametrize("name", ['quote"d', "back\\\\slash", "tab\\t", "ünïcode/Conv_0", "it's"])
def test_names_that_text_proto_escapes(make_session, record_file, name):
    """The model holds the name, the file its escaped form: both as ONNX text here, where escapes are alike."""
    plain = name.replace("\\\\", "\\").replace("\\t", "\t")
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'").replace("\t", "\\t")
    octal = "".join(c if ord(c) < 128 else "".join(f"\\{b:03o}" for b in c.encode()) for c in escaped)
    for written in {escaped, octal}:
        path = record_file(written)
        session = make_session(many_nodes(path, ["PLACEHOLDER"]), rename={"PLACEHOLDER": plain})
        session.run(None, {"x": np.ones(3, np.float32)})
        assert "scale_d" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "layer", "filled"),
    [
        (["conv"], "conv  ", "conv"),  # AMCT's kernels drop trailing blanks
        (["conv  "], "conv  ", "conv  "),
        (["conv", "conv  "], "conv  ", "conv  "),
        (["conv  ", "conv"], "conv", "conv"),
    ],
)
def test_trailing_blanks(make_session, record_file, entry, keys, layer, filled):
    path = record_file(*keys)
    make_session(many_nodes(path, [layer])).run(None, {"x": np.ones(3, np.float32)})
    text = path.read_text()
    assert text.count("scale_d") == 1
    assert f'key: "{filled}"\n  value {{\n    scale_d' in text
    for key in set(keys) - {filled}:
        assert entry(key) in text


def test_the_record_reader_reads_the_result(make_session, record_file):
    from ort_quant_plugin.record import Record

    path = record_file("conv")
    make_session(many_nodes(path, ["conv"])).run(None, {"x": np.linspace(-3, 3, 100, dtype=np.float32)})
    record = Record.read(path)["conv"]
    assert record.scale_d == np.float32(record.scale_d) > 0
    assert (record.act_type, record.op_data_type) == ("INT8", "FLOAT32")


def test_read_only_folder_is_reported(make_session, record_file, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path = record_file("conv")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(Exception, match="cannot write beside the record file"):
            make_session(many_nodes(path, ["conv"])).run(None, {"x": np.ones(3, np.float32)})
    finally:
        tmp_path.chmod(0o700)
