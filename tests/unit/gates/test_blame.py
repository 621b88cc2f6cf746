"""Layers to blame: the broken one is named although everything behind it is wrong too."""

from __future__ import annotations

from pathlib import Path

import pytest

import ort_quant_plugin as oq
from ort_quant_plugin.gates.blame import blame
from ort_quant_plugin.gates.evaluate import Evaluator
from ort_quant_plugin.model import read_model, write_model

LAYERS = [
    "stem_conv", "depthwise_conv", "pointwise_conv", "down_conv", "residual1_conv", "residual2_conv", "head_conv",
    "average_pool", "classifier",
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_the_layer_whose_scale_is_doubled_comes_first(gate, damaged, layer):
    evaluator, wanted = Evaluator(), gate("sqnr_db", damaged(layer))
    evaluator.measure(wanted)
    layers, note = blame(wanted, evaluator)
    assert layers[0].name == layer
    assert len(layers) == 3
    assert layers[0].added_noise > 10 * layers[1].added_noise
    assert layers[0].sqnr_db < 10
    assert note == "measured on the first 20 samples"


def test_a_sound_model_has_no_loud_layer(gate):
    layers, _ = blame(gate("sqnr_db"), Evaluator())
    assert all(0 < layer.added_noise < 1e-2 for layer in layers)


def test_a_doubled_scale_in_a_qdq_model(gate, digits, tmp_path):
    """The dequantizer's scale alone: the layer gets twice the value."""
    import onnx_ir as ir

    model = read_model(digits.qdq)
    node = next(node for node in model.graph if node.name == "down_conv")
    dequantize = node.inputs[0].producer()
    assert dequantize.op_type == "DequantizeLinear"
    scale = dequantize.inputs[1]
    doubled = ir.Value(name="doubled", const_value=ir.tensor(2 * scale.const_value.numpy(), name="doubled"))
    model.graph.register_initializer(doubled)
    dequantize.replace_input_with(1, doubled)
    write_model(model, tmp_path / "qdq.onnx")
    layers, _ = blame(gate("sqnr_db", str(tmp_path / "qdq.onnx")), Evaluator())
    assert layers[0].name == "down_conv"


def test_an_ort_model_is_blamed_through_its_sibling(gate, digits, damaged, tmp_path):
    """Lowered from the damaged deploy model, with the damaged simulation beside it."""
    damaged("residual1_conv", name="net_fake_quant_model.onnx")
    deploy = Path(damaged("residual1_conv", digits.ascend, name="net_deploy_model.onnx"))
    oq.lower_model(deploy, tmp_path / "net_ort_model.onnx")
    layers, note = blame(gate("sqnr_db", str(tmp_path / "net_ort_model.onnx")), Evaluator())
    assert layers[0].name == "residual1_conv"
    assert note == "of net_fake_quant_model.onnx, which has the same outputs"


def test_a_sibling_with_other_outputs_is_not_believed(gate, digits, damaged, tmp_path):
    damaged("residual1_conv", name="net_fake_quant_model.onnx")
    (tmp_path / "net_ort_model.onnx").write_bytes(Path(digits.ort).read_bytes())
    layers, note = blame(gate("sqnr_db", str(tmp_path / "net_ort_model.onnx")), Evaluator())
    assert layers == []
    assert note == (
        "net_ort_model.onnx has none that can be told apart, and net_fake_quant_model.onnx beside it has other outputs"
    )


def test_why_there_are_none(gate, digits, tmp_path):
    alone = tmp_path / "alone_ort_model.onnx"
    alone.write_bytes(Path(digits.ort).read_bytes())
    assert blame(gate("sqnr_db", str(alone)), Evaluator()) == (
        [], "alone_ort_model.onnx has none that can be told apart: keep its fake_quant model beside it"
    )  # fmt: skip
    layers, note = blame(gate("top1", reference=None), Evaluator())
    assert (layers, note) == ([], "there is no float model to compare with: add reference=…")
    assert blame(gate("size_ratio"), Evaluator()) == ([], None)


def test_gates_that_are_missed_together_share_the_layers(gate, damaged, monkeypatch):
    path, evaluator = damaged("down_conv"), Evaluator()
    first = blame(gate("sqnr_db", path), evaluator)
    monkeypatch.setattr("ort_quant_plugin.gates.blame.compare_layers", None)
    assert blame(gate("top1", path), evaluator) == first
    with pytest.raises(TypeError):
        blame(gate("top1", path, max_samples=10), evaluator)


def test_overrides_count(gate, digits, damaged):
    layers, _ = blame(gate("sqnr_db"), Evaluator(), model=damaged("head_conv"))
    assert layers[0].name == "head_conv"


def test_compare_shows_the_layers_of_the_sibling(digits):
    import numpy as np

    from ort_quant_plugin.model import input_specs

    data = oq.open_data(np.load(digits.data)[:20], input_specs(read_model(digits.float)), batch_size=20)
    (candidate,) = oq.compare(digits.float, [digits.ort], data, layers=True).candidates
    assert candidate.layers_of == Path(digits.fake_quant)
    assert {layer.name for layer in candidate.layers} == set(LAYERS)
    assert candidate.to_dict()["layers_of"] == digits.fake_quant
