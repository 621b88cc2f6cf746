"""The latency benchmark runs as its README says, counts right, and does not hide what is slower or differs."""

from __future__ import annotations

import argparse
import importlib
import math
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
import pytest

from ort_quant_plugin.demo import demo_model_path
from ort_quant_plugin.ops.reference_int8 import q_conv, quantize

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LABELS = {
    "float": "ONNX Runtime, float",
    "ort-qdq": "ONNX Runtime, its QDQ",
    "ours-qdq": "ONNX Runtime, our QDQ",
    "ours": "ours: ort model",
}


@pytest.fixture
def latency(run_benchmark):
    """Run one short round; gives the finished process and the JSON document."""
    return partial(run_benchmark, "latency.py", "--seconds", "0.01")


@pytest.fixture
def module(monkeypatch):
    """Import a module of the benchmarks, which are no package."""

    def _import(name):
        monkeypatch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)

    return _import


def _macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiplications of one sample by layer: output values times the weights that each needs."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    return {
        node.name: math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        for node in inferred.node
        if node.op_type in {"Conv", "Gemm"}
    }


def test_digits(latency, tmp_path):
    page = tmp_path / "table.md"
    done, report = latency("--rows", ",".join(LABELS), "--per-layer", "--peak", 300, "--markdown", page)
    assert done.returncode == 0, done.stderr + done.stdout
    (net,) = report["nets"]
    rows = {row["row"]: row for row in net["rows"]}
    assert {name: row["label"] for name, row in rows.items()} == LABELS
    float_bytes = demo_model_path().stat().st_size
    for row in rows.values():
        assert [(time["threads"], time["batch"]) for time in row["times"]] == [(1, 1), (1, 8), (2, 1), (2, 8)]
        for time in row["times"]:
            base = next(
                t for t in rows["ort-qdq"]["times"] if (t["threads"], t["batch"]) == (time["threads"], time["batch"])
            )
            assert 0 < time["least_ms"] <= time["ms"] <= time["most_ms"] < 1000
            assert time["ratios"]["ort-qdq"] == pytest.approx(time["ms"] / base["ms"])
            assert time["ratios"]["openvino"] is None
        one, two = row["times"][0], row["times"][2]
        assert two["ratios"]["fewest_threads"] == pytest.approx(two["ms"] / one["ms"])
        assert row["memory"]["peak_mb"] >= row["memory"]["resident_mb"] > row["memory"]["libraries_mb"] > 10
        assert row["to_float_bytes"] == pytest.approx(row["bytes"] / float_bytes)
        assert row["label"] in done.stdout
        assert f"| {row['label']} |" in page.read_text(encoding="utf-8")
    assert rows["float"]["to_float_bytes"] == 1
    assert 0.25 < net["deploy_to_float"] < 0.4
    for name in ("ort-qdq", "ours-qdq", "ours"):
        assert 25 < rows[name]["score"]["sqnr_db"] < 60
    assert rows["ours"]["score"]["same"] is True
    assert rows["ours"]["score"]["exact"] is True


def test_layers_of_digits(latency):
    done, report = latency("--rows", "ort-qdq,ours", "--batches", 2, "--threads", 1, "--per-layer", "--peak", 300)
    assert done.returncode == 0, done.stderr + done.stdout
    (net,) = report["nets"]
    expected = {name: 2 * count for name, count in _macs(onnx.load(demo_model_path())).items()}
    layers = net["layers"]["layers"]
    chain = ["stem_conv", "depthwise_conv", "pointwise_conv"]
    assert [name for layer in layers for name in layer["layers"]] == list(expected)
    assert [layer["macs"] for layer in layers] == [sum(expected[name] for name in layer["layers"]) for layer in layers]
    assert layers[0]["layers"] == chain
    assert layers[0]["name"] == " + ".join(chain)
    assert (layers[0]["op"], layers[0]["ort_op"]) == ("QConvChain", "QLinearConv")
    assert " + ".join(chain) in done.stdout
    for layer in layers:
        assert (layer["op"], layer["ort_op"]) in {
            ("QConvChain", "QLinearConv"),
            ("QConv", "QLinearConv"),
            ("QGemm", "QGemm"),
        }
        assert layer["ratio"] == pytest.approx(layer["us"] / layer["ort_us"])
        assert layer["share_of_peak"] == pytest.approx(layer["macs"] / layer["us"] / 1e3 / 300)
    assert "QuantizeLinear" in net["layers"]["others"]["ort"]


def test_layers_that_are_slower_are_named(module):
    per_layer = module("per_layer")

    def node(name, us, op="QConv", macs=2_000_000):
        layers = [] if macs is None else [name]
        return {"name": name, "op": op, "least_us": us, "layers": layers, "macs": macs, "output": [1, 8]}

    ours = [[node("a", 12), node("b", 30), node("copy", 4, "QuantizeLayout", None)], [node("a", 10), node("b", 31)]]
    ours[1].append(node("copy", 5, "QuantizeLayout", None))
    base = [[node("b", 20), node("a", 20), node("only_theirs", 7)]]
    found = per_layer.compare(ours, base, 400.0, batch=1)
    table = per_layer.table_of("net", found)
    assert [row[-1] for row in table.rows] == ["", "slower", ""]
    assert table.rows[0][4:9] == ["10", "200", "50", "20", "0.50"]
    assert table.remarks[:2] == ["Slower than ONNX Runtime's: b.", "In one of the two models only: only_theirs."]
    assert found["others"]["ours"] == {"QuantizeLayout": [1, 4]}
    assert found["total_us"] == {"ours": 44, "ort": 47}


def test_a_chain_is_compared_with_its_layers(module):
    per_layer = module("per_layer")

    def node(us, *layers, op="QConv", macs=2_000_000):
        return {"name": layers[-1], "op": op, "least_us": us, "layers": layers, "macs": macs, "output": [1, 8]}

    ours = [[node(30, "a", "b", "c", op="QConvChain", macs=9_000_000), node(10, "d", "e", op="QConvChain")]]
    base = [[node(10, "a"), node(8, "b"), node(7, "c"), node(4, "d")]]
    found = per_layer.compare(ours, base, 400.0, batch=1)
    table = per_layer.table_of("net", found)
    assert [row[0] for row in table.rows] == ["a + b + c", "d + e", "d"]
    assert table.rows[0][1:] == ["QConvChain", "1×8", "9.00", "30", "300", "75", "25", "1.20", "slower"]
    assert found["layers"][1]["ort_us"] is None  # half of it would be no comparison
    assert table.remarks[:2] == ["Slower than ONNX Runtime's: a + b + c.", "In one of the two models only: d + e, d."]
    assert found["total_us"] == {"ours": 40, "ort": 29}


WINDOWS = [
    {"strides": [2, 3], "pads": [1, 0, 2, 1]},
    {"dilations": [2, 3]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "VALID", "strides": [3, 2]},
]


@pytest.mark.parametrize("window", WINDOWS)
def test_multiplications_of_a_chain(module, window):
    """The layers in between are seen by nobody, so their sizes are computed; the oracle knows them."""
    layers = module("timing.layers")
    random = np.random.default_rng(1)
    x = random.integers(0, 256, (2, 11, 14, 3), np.uint8)
    shapes = [(8, 3, 3, 2), (8, 1, 3, 3), (5, 8, 1, 1)]
    windows = [window, {"group": 8, "pads": [1, 1, 1, 1]}, {}]
    expected, value = 0, x
    for shape, given in zip(shapes, windows, strict=True):
        value = q_conv(value, random.integers(-9, 9, shape, np.int8), [1.0], **given)
        expected += value.size * math.prod(shape[1:])
        value = quantize(value, 0.01)
    stages = [layers.Stage("l", shape, given) for shape, given in zip(shapes, windows, strict=True)]
    assert layers.chain_macs(stages, x.shape) == expected


@pytest.mark.parametrize(
    ("line", "value"), [("avx512vnni; vpdpbusd on registers: 391.5", 391.5), ("scalar; peak: inf", None)]
)
def test_peak_is_read_from_the_program_that_measures_it(module, tmp_path, line, value):
    per_layer = module("per_layer")
    program = tmp_path / "bench"
    program.write_text(f'#!/bin/sh\ntest "$1" = --peak && echo "{line} GMAC/s"\n', encoding="ascii")
    program.chmod(0o755)
    arguments = argparse.Namespace(peak=None, bench=program, timeout=10)
    assert per_layer.peak(arguments) == value
    program.write_text("#!/bin/sh\nexit 3\n", encoding="ascii")
    with pytest.raises(module("harness").ChildError, match=r"bench --peak: .*exit status 3"):
        per_layer.peak(arguments)


def test_one_bit_of_difference_is_seen(module, tmp_path):
    jobs, judge = module("jobs"), module("timing.judge")
    values = np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10)
    other = values.copy()
    other[3, 9] = np.nextafter(other[3, 9], np.float32(2))
    np.savez(tmp_path / "one.npz", b1_0=values, b4_0=values)
    np.savez(tmp_path / "two.npz", b1_0=values, b4_0=other)
    one, two = str(tmp_path / "one.npz"), str(tmp_path / "two.npz")
    answers = {"equal": [one, one], "batches": [two], "threads": [one, two]}
    options = {"answers": answers, "float": one, "fake_quant": one}
    job = jobs.Job("", "", "", "", (), (), None, None, "", options)
    scores = judge.run(job).values
    assert {name: score["same"] for name, score in scores.items()} == {
        "equal": True,
        "batches": False,
        "threads": False,
    }
    np.savez(tmp_path / "wrong.npz", b1_0=other)
    wrong = {**options, "answers": {"wrong": [str(tmp_path / "wrong.npz")]}}
    score = judge.run(jobs.Job("", "", "", "", (), (), None, None, "", wrong)).values["wrong"]
    assert score["exact"] is False
    assert score["agreement"] == 1


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    # Parameters of the trained networks, one bias a channel in place of BatchNormalization's scale and shift.
    [("resnet50", 25_557_032 - 26_560, 4.089), ("mobilenetv2", 3_504_872 - 17_056, 0.3008)],
)
def test_nets_have_the_published_size(module, name, parameters, gmacs):
    model = ir.to_proto(module("nets").NETS[name]())
    assert sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.dims) == parameters
    assert sum(_macs(model).values()) / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.slow
def test_an_engine_that_cannot_be_installed_is_left_out_with_the_reason(latency, tmp_path):
    arguments = ["--rows", "openvino,float", "--threads", 1, "--batches", 1, "--cache", tmp_path / "cache"]
    done, report = latency(*arguments, PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    openvino, plain = report["nets"][0]["rows"]
    assert openvino["problem"].startswith("skipped: ")
    assert "openvino==" in openvino["problem"]
    assert openvino["problem"] in done.stdout
    assert len(plain["times"]) == 1


def test_a_net_that_cannot_be_had_is_a_failure(latency, tmp_path):
    arguments = ["--nets", "ppocr-cls,digits", "--ppocr-cls", tmp_path / "no.onnx", "--rows", "float", "--threads", 1]
    done, report = latency(*arguments)
    assert done.returncode == 1
    missing, digits = report["nets"]
    assert "no.onnx" in missing["problems"][0]
    assert missing["rows"] == []
    assert len(digits["rows"]) == 1
