"""Deploy graphs from text: lowered, run by the real operators, compared bit by bit with the float form of the graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from ort_quant_plugin.lowering import LoweringReport, lower
from ort_quant_plugin.model import write_model
from ort_quant_plugin.qparams import pack_deq_scale

_INTEGERS = {ir.DataType.INT8, ir.DataType.INT32}


@dataclass
class Lowered:
    """A lowered graph and what was said about it."""

    model: ir.Model
    report: LoweringReport

    @property
    def operators(self) -> Counter[str]:
        return Counter(node.op_type for node in self.model.graph)

    def node(self, name: str) -> ir.Node:
        return next(node for node in self.model.graph if node.name == name)

    def epilogue(self, name: str) -> list[str]:
        attribute = self.node(name).attributes.get("epilogue")
        return attribute.as_string().split(";") if attribute is not None else []


def float_form(model: ir.Model) -> ir.Model:
    """The fake_quant form of a deploy graph: AMCT's operators on float tensors that hold the integers."""
    made = model.clone()
    made.opset_imports["amct.customop"] = 1
    for name, value in list(made.graph.initializers.items()):
        if value.dtype in _INTEGERS:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in made.graph:
        if node.op_type.startswith("Ascend"):
            node.domain = "amct.customop"
            node.attributes.pop("dtype", None)
        for output in node.outputs:
            if not output.is_graph_output():
                output.type = None
    return made


@pytest.fixture
def lowered(build, tmp_path, run_model):
    """Lower a deploy graph given as text; with feeds, also demand the bits of its float form, at 1 and 2 threads."""

    def _lowered(text: str, feeds=None, *, level="ORT_DISABLE_ALL", chains=True, **arrays) -> Lowered:
        deploy = build(text, **arrays)
        reference = float_form(deploy)
        made = deploy.clone()
        report = lower(made, chains=chains)
        write_model(made, tmp_path / "lowered.onnx")
        if feeds is None:
            return Lowered(made, report)
        write_model(reference, tmp_path / "reference.onnx")
        for feed in feeds if isinstance(feeds, list) else [feeds]:
            expected = run_model(tmp_path / "reference.onnx", feed)
            for threads in (1, 2):
                found = run_model(tmp_path / "lowered.onnx", feed, level=level, threads=threads)
                assert list(found) == list(expected)
                for name, array in expected.items():
                    np.testing.assert_array_equal(found[name].view(np.uint8), array.view(np.uint8), name)
        return Lowered(made, report)

    return _lowered


@pytest.fixture(scope="session")
def weights():
    """Arrays of layers: ``w`` int8, ``b`` int32, ``s`` the packed scales, each name with the layer's number behind."""

    def _weights(number: int, *shape: int, channels: int | None = None, bias: bool = True, per_channel: bool = True):
        rng = np.random.default_rng(number)
        channels = shape[0] if channels is None else channels
        made = {
            f"w{number}": rng.integers(-128, 128, shape).astype(np.int8),
            f"s{number}": pack_deq_scale(rng.uniform(1e-4, 3e-4, channels if per_channel else 1).astype(np.float32)),
        }
        if bias:
            made[f"b{number}"] = rng.integers(-9000, 9000, channels).astype(np.int32)
        return made

    return _weights


@pytest.fixture(scope="session")
def image():
    """float32 [N,C,H,W] from a seed, wider than what the quantizers of the tests hold."""

    def _image(*shape: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)

    return _image
