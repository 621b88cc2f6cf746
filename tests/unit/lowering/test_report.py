"""What lowering says about itself."""

from __future__ import annotations

import json
from pathlib import Path

from ort_quant_plugin.lowering import LoweredLayer, LoweringReport


def test_summary_and_json():
    layers = [
        LoweredLayer("a", "Conv", "QConv", ("Relu",)),
        LoweredLayer("b", "Conv", "QConv"),
        LoweredLayer("c", "Gemm", "Gemm", (), "alpha is 2.0; expected 1.0"),
    ]
    report = LoweringReport(layers, {"QConv": 2, "QuantizeLayout": 1}, ["n"], Path("x.onnx"))
    assert report.summary() == "2 of 3 quantized layers run in int8 (2 QConv), 1 tensor is quantized at borders"
    assert report.stayed_float == {"c": "alpha is 2.0; expected 1.0"}
    document = json.loads(json.dumps(report.to_dict()))
    assert (document["int8"], document["float"], document["output"]) == (2, 1, "x.onnx")
    assert document["layers"][0]["fused"] == ["Relu"]


def test_chains_are_counted_as_layers_and_nodes():
    chained = [LoweredLayer(name, "Conv", "QConvChain", chain=name.upper()[0]) for name in ("aa", "ab", "ba")]
    report = LoweringReport([LoweredLayer("c", "Conv", "QConv"), *chained], {"QConv": 1, "QConvChain": 2})
    assert report.summary().startswith("4 of 4 quantized layers run in int8 (1 QConv, 3 in 2 QConvChain), ")


def test_nothing_lowered():
    assert LoweringReport().summary() == "0 of 0 quantized layers run in int8, 0 tensors are quantized at borders"
