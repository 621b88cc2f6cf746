"""config.pbtxt: what is written for which model and options, and what is refused."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ort_quant_plugin.errors import ConfigError, TritonError, UnsupportedError
from ort_quant_plugin.triton.config import build_config, config_text, parse_config
from ort_quant_plugin.triton.options import DynamicBatching, RepositoryOptions
from ort_quant_plugin.triton.signature import Signature, Tensor

NET = Signature(
    path=Path("net.onnx"),
    kind="float",
    precision="fp32",
    inputs=(Tensor("x", "FLOAT", (None, 3, 8, 8)),),
    outputs=(Tensor("y", "FLOAT", (None, 10)),),
    batched=True,
    libraries=(),
    foreign_domains=(),
    external_files=(),
    opset=17,
    ir_version=8,
)
FIXED = replace(
    NET, inputs=(Tensor("x", "FLOAT", (1, 3, 8, 8)),), outputs=(Tensor("y", "FLOAT", (1, 10)),), batched=False
)
FAKE = replace(NET, kind="fake_quant", precision="fake_quant")
FLUSH = Tensor("ort_quant.flush", "BOOL", (1,), optional=True)
CALIBRATION = replace(
    NET,
    kind="calibration",
    precision="calibration",
    inputs=(*NET.inputs, FLUSH),
    outputs=(*NET.outputs, Tensor("ort_quant.sketches", "UINT8", (None,))),
    batched=False,
)


def config(signature=NET, **options):
    return build_config({1: signature}, RepositoryOptions("net", **options))


def test_everything_at_its_default():
    assert config_text(config()) == (Path(__file__).parent / "default.pbtxt").read_text()


def test_everything_set():
    made = build_config(
        {1: FAKE},
        RepositoryOptions(
            "net",
            max_batch=16,
            instances=2,
            threads=4,
            dynamic_batching=DynamicBatching(1000, (8, 16), 64, 500_000),
            graph_level=1,
            version_policy="latest:2",
            response_cache=True,
            tags={"team": "vision"},
        ),
        library_paths=("/opt/libort_quant_ops.so", "/opt/libacme.so"),
    )
    assert config_text(made) == (Path(__file__).parent / "full.pbtxt").read_text()


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_text(config_text(config(max_batch=4)))
    assert parse_config(path) == config(max_batch=4)


def test_without_a_batch_axis():
    made = config(FIXED)
    assert made.max_batch_size == 0
    assert list(made.input[0].dims) == [1, 3, 8, 8]
    assert not made.HasField("dynamic_batching")
    assert [sample.batch_size for sample in made.model_warmup] == [1]
    assert list(made.model_warmup[0].inputs["x"].dims) == [1, 3, 8, 8]


def test_no_joining_where_batches_are_of_one():
    assert not config(max_batch=1).HasField("dynamic_batching")
    assert not config(max_batch=0).HasField("dynamic_batching")
    assert list(config(max_batch=0).input[0].dims) == [-1, 3, 8, 8]
    assert not config(dynamic_batching=None).HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("kind", "given", "level"), [("float", None, 0), ("fake_quant", None, 2), ("fake_quant", 0, 0), ("float", -1, -1)]
)
def test_graph_level(kind, given, level):
    assert config(replace(NET, kind=kind), graph_level=given).optimization.graph.level == level


def test_threads():
    assert config(threads=3).parameters["intra_op_thread_count"].string_value == "3"
    assert "intra_op_thread_count" not in config(threads=0).parameters


def test_one_value_a_sample_is_reshaped():
    made = config(replace(NET, outputs=(Tensor("y", "FLOAT", (None,)),)))
    assert list(made.output[0].dims) == [1]
    assert made.output[0].HasField("reshape")
    assert list(made.output[0].reshape.shape) == []


def test_scalars():
    made = config(replace(NET, outputs=(Tensor("y", "FLOAT", ()),), batched=False))
    assert made.max_batch_size == 0
    assert list(made.output[0].dims) == [1]
    assert not made.output[0].HasField("reshape")


def test_calibration_model():
    made = config(CALIBRATION, response_cache=True, shapes={"x": (2, 3, 8, 8)})
    assert made.max_batch_size == 0
    assert [(entry.name, list(entry.dims), entry.optional) for entry in made.input] == [
        ("x", [-1, 3, 8, 8], False),
        ("ort_quant.flush", [1], True),
    ]
    assert [group.count for group in made.instance_group] == [1]
    for field in ("dynamic_batching", "response_cache"):
        assert not made.HasField(field)
    assert not made.model_warmup


@pytest.mark.parametrize(
    ("signature", "options", "message"),
    [
        (FIXED, {"max_batch": 4}, r"max_batch is 4, but the first axis of x FLOAT\[1,3,8,8\]"),
        (CALIBRATION, {"max_batch": 4}, "calibration model, which is served without a batch axis"),
        (CALIBRATION, {"instances": 2}, "instances is 2, but a calibration model must have one"),
        (NET, {"dynamic_batching": DynamicBatching(preferred_sizes=(9,))}, "9 is larger than the largest batch, 8"),
        (NET, {"shapes": {"x": (3, 8)}}, r"\[3, 8\] for input 'x' does not fit \[3,8,8\]"),
        (NET, {"shapes": {"x": (3, 8, 9)}}, "does not fit"),
    ],
)
def test_refused(signature, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        config(signature, **options)
    assert caught.value.hint


def test_warmup_of_free_axes():
    free = replace(NET, inputs=(Tensor("x", "FLOAT", (None, 3, None, None)),))
    assert not config(free).model_warmup
    made = config(free, shapes={"x": (3, 32, 48)})
    assert [(s.batch_size, list(s.inputs["x"].dims)) for s in made.model_warmup] == [(1, [3, 32, 48]), (8, [3, 32, 48])]


def test_types():
    made = config(
        replace(NET, inputs=(Tensor("x", "STRING", (None, 1)),), outputs=(Tensor("y", "FLOAT16", (None, 1)),))
    )
    assert "data_type: TYPE_STRING" in config_text(made)
    assert "data_type: TYPE_FP16" in config_text(made)
    with pytest.raises(UnsupportedError, match="'y' has type BFLOAT16"):
        config(replace(NET, outputs=(Tensor("y", "BFLOAT16", (None, 1)),)))


def test_precision_of_versions():
    options = RepositoryOptions("net")
    int8 = replace(NET, kind="ort", precision="int8-ort")
    assert build_config({1: NET, 2: NET}, options).metric_tags["precision"] == "fp32"
    assert build_config({2: int8, 1: NET}, options).metric_tags["precision"] == "v1:fp32,v2:int8-ort"


@pytest.mark.parametrize(
    "other",
    [
        replace(NET, inputs=(Tensor("z", "FLOAT", (None, 3, 8, 8)),)),
        replace(NET, inputs=(Tensor("x", "FLOAT16", (None, 3, 8, 8)),)),
        replace(NET, outputs=(Tensor("y", "FLOAT", (None, 11)),)),
        FIXED,
    ],
)
def test_versions_must_agree(other):
    with pytest.raises(ConfigError, match=r"Versions 1 and 2 differ in their (in|out)puts"):
        build_config({1: NET, 2: other}, RepositoryOptions("net"))


def test_a_calibration_model_stands_alone():
    with pytest.raises(ConfigError, match="cannot share its name"):
        build_config({1: CALIBRATION, 2: CALIBRATION}, RepositoryOptions("net"))


def test_python_backend():
    made = build_config(
        {1: NET}, RepositoryOptions("net", backend="python"), library_paths=("libort_quant_ops.so", "/opt/libacme.so")
    )
    assert made.backend == "python"
    assert not made.HasField("model_operations")
    assert made.parameters["op_library_filename"].string_value == "libort_quant_ops.so:/opt/libacme.so"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "x"\nmax_batch: 4\n', r'2:1 : .*no field named "max_batch"'),
        ('name: "x', r"not a model configuration: 1:7"),
        ("input [ { data_type: TYPE_FP33 } ]", "TYPE_FP33"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "config.pbtxt"
    path.write_text(text)
    with pytest.raises(TritonError, match=message) as caught:
        parse_config(path)
    assert str(path) in caught.value.message


def test_missing_file(tmp_path):
    with pytest.raises(TritonError, match="does not exist"):
        parse_config(tmp_path / "config.pbtxt")


def test_no_tritonclient(monkeypatch):
    monkeypatch.setitem(sys.modules, "tritonclient.grpc.model_config_pb2", None)
    with pytest.raises(TritonError, match="schema cannot be imported") as caught:
        config()
    assert re.search(r"pip install 'ort-quant-plugin\[triton\]'", caught.value.hint)
