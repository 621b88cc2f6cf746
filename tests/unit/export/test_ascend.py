"""The deploy model and the layer map: exactly what ATC reads."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir

from ort_quant_plugin.model import const_array

HEADER = '<ir_version: 8, opset_import: ["": 13]>\n'
RNG = np.random.default_rng(8)


def test_only_the_default_domain_and_no_metadata(small_calibrated):
    _, model, exported = small_calibrated.export("ascend")
    assert set(model.opset_imports) == {""}
    assert {node.domain for node in model.graph} == {""}
    assert not model.metadata_props
    assert not any(node.metadata_props for node in model.graph)
    assert exported.notes == []


def test_layers_are_int8_with_int32_bias(small_calibrated):
    _, model, _ = small_calibrated.export("ascend")
    nodes = {n.name: n for n in model.graph}
    for name, bias in (("conv1", True), ("conv2", False), ("fc", True)):
        node = nodes[name]
        assert const_array(node.inputs[1]).dtype == np.int8
        assert len(node.inputs) == 2 + bias
        if bias:
            assert const_array(node.inputs[2]).dtype == np.int32
        quant = nodes[f"{name}.quant"] if f"{name}.quant" in nodes else node.inputs[0].producer()
        assert quant.attributes["dst_type"].as_string() == "INT8"
        param = model.graph.initializers[f"{name}.dequant.param"]
        assert param.dtype == ir.DataType.UINT64
        assert nodes[f"{name}.dequant"].attributes["dtype"].as_int() == 0
        assert nodes[f"{name}.dequant"].inputs[1] is param


def test_numbers_agree_with_the_simulation(small_calibrated):
    _, deploy, _ = small_calibrated.export("ascend")
    _, fake, _ = small_calibrated.export("fake_quant")
    for name in ("conv1", "conv2", "conv3", "fc"):
        ours = next(n for n in deploy.graph if n.name == name)
        theirs = next(n for n in fake.graph if n.name == name)
        for a, b in zip(ours.inputs[1:], theirs.inputs[1:], strict=True):
            np.testing.assert_array_equal(const_array(a).astype(np.float32), const_array(b))
    for node in fake.graph:
        if node.op_type == "AscendQuant":
            twin = next(n for n in deploy.graph if n.name == node.name)
            for attribute in ("scale", "offset"):
                assert twin.attributes[attribute].as_float() == node.attributes[attribute].as_float()


def test_shape_of_the_dequantization_scale(small_calibrated):
    _, model, _ = small_calibrated.export("ascend")
    assert list(model.graph.initializers["conv1.dequant.param"].shape) == [4]
    assert list(model.graph.initializers["fc.dequant.param"].shape) == [1]


def _relu6_net(build, calibrate, weight):
    text = (
        HEADER
        + """g (float[N,1,2,2] x) => (float[] y) {
        [a] c = Conv(x, wa) [clip] r = Clip(c, zero, six) [b] y = Conv(r, wb) }"""
    )
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(16, 1, 2, 2)
    arrays = {"wa": np.float32(weight).reshape(1, 1, 1, 1), "wb": np.ones((1, 1, 1, 1), np.float32)}
    made = calibrate(build(text, zero=np.float32(0), six=np.float32(6), **arrays), {"x": x})
    return {n.name: n.op_type for n in made.export("ascend")[1].graph}


def test_relu6_becomes_relu_when_the_quantizer_saturates_below_six(build, calibrate):
    assert _relu6_net(build, calibrate, 2.0)["clip"] == "Relu"


def test_relu6_stays_when_six_is_reached(build, calibrate):
    assert _relu6_net(build, calibrate, 50.0)["clip"] == "Clip"


def test_layer_map(small_calibrated):
    path, _, _ = small_calibrated.export("ascend")
    document = json.loads((path.parent / "net_quant.json").read_text())
    assert document["name"] == "net"
    operators = {entry["name"]: entry for entry in document["graph"][0]["op"]}

    def originals(name):
        (attribute,) = operators[name]["attr"]
        assert attribute["key"] == "_datadump_original_op_names"
        assert attribute["value"]["list"]["val_type"] == 1
        return attribute["value"]["list"]["s"]

    assert originals("conv1") == ["conv1"]
    assert originals("conv1.quant") == []
    assert originals("conv1.dequant") == ["conv1"]
    description = {a["key"]: a["value"] for a in operators["conv1.dequant"]["output_desc"][0]["attr"]}
    assert description["_datadump_origin_name"] == {"s": "conv1"}
    assert description["_datadump_data_type"] == {"s": "DT_FLOAT"}


def test_layer_map_names_fused_nodes(build, calibrate):
    text = (
        HEADER
        + """g (float[N,2,4,4] x) => (float[] y) {
        [conv] c = Conv(x, w) [bn] y = BatchNormalization(c, s, b, m, v) }"""
    )
    arrays = {k: RNG.uniform(0.5, 1, 3).astype(np.float32) for k in "sbmv"}
    model = build(text, w=RNG.normal(size=(3, 2, 1, 1)).astype(np.float32), **arrays)
    made = calibrate(model, {"x": RNG.normal(size=(2, 2, 4, 4)).astype(np.float32)})
    path, _, _ = made.export("ascend")
    text = (path.parent / "net_quant.json").read_text()
    conv = next(e for e in json.loads(text)["graph"][0]["op"] if e["name"] == "conv.dequant")
    assert conv["attr"][0]["value"]["list"]["s"] == ["conv", "bn"]


def test_operators_of_other_domains_are_reported(build, calibrate):
    text = """<ir_version: 8, opset_import: ["": 13, "com.microsoft": 1]>
    g (float[N,2,4,4] x) => (float[] y) { [conv] c = Conv(x, w) [gelu] y = com.microsoft.Gelu(c) }"""
    model = build(text, w=RNG.normal(size=(3, 2, 1, 1)).astype(np.float32))
    made = calibrate(model, {"x": RNG.normal(size=(2, 2, 4, 4)).astype(np.float32)})
    _, _, exported = made.export("ascend")
    assert "com.microsoft::Gelu" in exported.notes[0]
