"""What calibration nodes say about themselves, ours and AMCT's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.calibration.calibrate import calibration_nodes
from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.config import ActivationConfig
from ort_quant_plugin.errors import ModelError
from ort_quant_plugin.model import input_specs
from ort_quant_plugin.passes.insert_observers import (
    FLUSH,
    SKETCHES,
    Observation,
    insert_observers,
    insert_sketches,
    remove_observers,
)

METHODS = {method.name: method for method in BUILTIN_METHODS}
NET = """<ir_version: 8, opset_import: ["": 13]>
g (float[N,4] x) => (float[] y) { [a] t = Gemm(x, w) [b] y = Gemm(t, w) }"""


@pytest.fixture
def model(build):
    return build(NET, w=np.ones((4, 4), np.float32))


def activation(name, **parameters):
    defaults = {parameter.name: parameter.default for parameter in METHODS[name].parameters}
    return ActivationConfig(name, parameters=defaults | parameters)


def insert(model, first, second, **choices):
    x, t = model.graph.inputs[0], model.graph[0].outputs[0]
    observations = [Observation("a", x, first), Observation("b", t, second), Observation("b:0", t, second)]
    return insert_observers(model, observations, METHODS, batch_num=3, record_file="/r.txt", **choices)


@pytest.mark.parametrize("storage", ["sketch", "exact"])
def test_nodes_are_read_back_as_they_were_meant(model, storage):
    first, second = activation("ifmr", search_step=0.02), activation("kld")
    insert(model, first, second, storage=storage, precision_mode="FORCE_FP16_QUANT")
    restored = ir.from_proto(ir.to_proto(model))
    one, two = calibration_nodes(restored)
    assert [use.keys for use in one.uses + two.uses] == [("a",), ("b", "b:0")]
    assert [use.activation for use in one.uses + two.uses] == [first, second]
    assert (one.tensor.name, two.tensor.name) == ("x", "t")
    assert (one.batch_num, one.record_file, one.precision_mode) == (3, "/r.txt", "FORCE_FP16_QUANT")
    assert (one.exact, two.exact) == (storage == "exact", False)


def test_only_observe_needs_flushing(model):
    outputs = [value.name for value in model.graph.outputs]
    insert(model, activation("ifmr"), activation("hfmg"))
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert [value.name for value in model.graph.outputs] == outputs


def test_removing_restores_the_model(model):
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    insert(model, activation("kld"), activation("hfmg"))
    assert [spec.name for spec in input_specs(model)] == ["x"]  # the flush has a default
    assert [value.name for value in model.graph.outputs] == ["y", SKETCHES]
    assert FLUSH in model.graph.initializers
    assert len(remove_observers(model)) == 3
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_removing_some(model):
    nodes = insert(model, activation("ifmr"), activation("kld"))
    remove_observers(model, only={nodes[1].name})
    assert [node.op_type for node in model.graph] == ["IFMR", "Gemm", "Gemm"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_what_is_observed_does_not_depend_on_the_method(model):
    """So the sketches of one method serve another."""
    texts = []
    for name in ("ifmr", "kld"):
        copy = model.clone()
        insert(copy, activation(name), activation(name))
        tensors = [node.tensor.name for node in calibration_nodes(copy)]
        remove_observers(copy)
        values = {value.name: value for node in copy.graph for value in (*node.inputs, *node.outputs)}
        insert_sketches(copy, [values[tensor] for tensor in tensors])
        texts.append(ir.to_proto(copy).SerializeToString(deterministic=True))
    assert texts[0] == texts[1]


def test_amct_nodes_have_the_defaults_of_their_operators(build):
    model = build(NET, w=np.ones((4, 4), np.float32))
    attributes = {"record_file_path": "/r.txt", "object_layer0": "a", "with_offset": 0, "end_ratio": 1.2}
    node = ir.node("IFMR", [model.graph.inputs[0]], attributes, domain="amct.customop", name="a_ifmr_op")
    model.graph.insert_before(model.graph[0], node)
    (found,) = calibration_nodes(model)
    (use,) = found.uses
    assert use.keys == ("a",)
    assert use.activation.algo == "ifmr"
    assert not use.activation.asymmetric
    assert use.activation.parameters["search_range"] == (0.7, pytest.approx(1.2))
    assert (found.batch_num, found.exact, found.precision_mode) == (1, True, "DEFAULT")


def test_a_damaged_description(model):
    nodes = insert(model, activation("kld"), activation("kld"))
    nodes[0].metadata_props["ort_quant.observer"] = '{"uses": 3}'
    with pytest.raises(ModelError, match=r"a_kld_op.*cannot be understood"):
        calibration_nodes(model)
