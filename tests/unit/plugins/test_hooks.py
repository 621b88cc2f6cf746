"""One test per hook: ``test_hook_<name>`` (``test_hooks_documented.py`` checks that none is missing)."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import click
import onnx_ir as ir
import pytest

from ort_quant_plugin.api import create_quant_config, quantize_model
from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod
from ort_quant_plugin.config import AlgorithmSpec, QuantConfig
from ort_quant_plugin.demo import demo_model_path
from ort_quant_plugin.errors import PluginError
from ort_quant_plugin.export import FakeQuantExporter
from ort_quant_plugin.gates.metrics import SampleMetric
from ort_quant_plugin.passes import PassReport, Phase
from ort_quant_plugin.plugins import PluginManager, ReportSection, Target, hookimpl
from ort_quant_plugin.record import Record
from ort_quant_plugin.report import QuantizationReport
from ort_quant_plugin.weights import ArqQuantizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = QuantConfig()


def node(name: str) -> ir.Node:
    return ir.node("Relu", [ir.val("x")], name=name)


def test_hook_register_methods(manager: PluginManager):
    class Method(IfmrMethod):
        name = "mine"
        parameters = ()  # type: ignore[assignment]

    class Plugin:
        @hookimpl
        def ort_quant_register_methods(self, registry):
            registry.add("mine", Method())

    manager.register(Plugin(), name="plugin")
    assert list(manager.methods()) == [*(method.name for method in BUILTIN_METHODS), "mine"]
    assert manager.algorithms()["mine"].parameters == ()
    assert manager.algorithms()["ifmr"].check is not None


def test_hook_register_weight_quantizers(manager: PluginManager):
    class Quantizer(ArqQuantizer):
        name = "mine"
        summary = "My own."

    class Plugin:
        @hookimpl
        def ort_quant_register_weight_quantizers(self, registry):
            registry.add("mine", Quantizer())

    assert manager.weight_algorithms() == {}
    manager.register(Plugin(), name="plugin")
    assert list(manager.weight_quantizers()) == ["arq_quantize", "mine"]
    assert manager.weight_algorithms() == {"mine": AlgorithmSpec("mine", "My own.")}


COARSE = """
from dataclasses import replace

import numpy as np

from ort_quant_plugin.plugins import hookimpl
from ort_quant_plugin.weights import ArqQuantizer

class Coarse(ArqQuantizer):
    name = "coarse"

    def quantize(self, weight, layer, *, num_bits, channel_wise):
        fine = super().quantize(weight, layer, num_bits=num_bits, channel_wise=channel_wise)
        return replace(fine, integers=fine.integers // 2, scale=fine.scale * np.float32(2))

@hookimpl
def ort_quant_register_weight_quantizers(registry):
    registry.add("coarse", Coarse())
"""


def test_a_configuration_chooses_the_weight_quantizer_of_a_plugin(distribution: Callable[..., None], tmp_path: Path):
    distribution("coarse", COARSE)
    model, config = str(demo_model_path()), tmp_path / "config.json"
    create_quant_config(str(config), model)
    scales = []
    for algo in ("arq_quantize", "coarse"):
        document = json.loads(config.read_text())
        document["classifier"]["weight_quant_params"]["wts_algo"] = algo
        config.write_text(json.dumps(document))
        quantize_model(str(config), model, str(tmp_path / f"{algo}.onnx"), str(tmp_path / f"{algo}.txt"))
        scales.append(Record.read(tmp_path / f"{algo}.txt"))
    assert scales[1]["classifier"].scale_w == tuple(2 * scale for scale in scales[0]["classifier"].scale_w)
    assert scales[1]["stem_conv"].scale_w == scales[0]["stem_conv"].scale_w


class Pass:
    """Does nothing, but in a place of its own."""

    phase = Phase.PREPARE

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, model: ir.Model, context: object) -> PassReport:
        return PassReport(self.name)


def test_hook_register_passes(manager: PluginManager):
    class Plugin:
        @hookimpl
        def ort_quant_register_passes(self, registry):
            registry.add("last", Pass("last"))
            registry.add("early", Pass("early"), before=("name_nodes",))

    builtin = list(manager.passes())
    manager.register(Plugin(), name="plugin")
    names = manager.pipeline(CONFIG).names()
    assert [name for name in names if name not in ("last", "early")] == builtin
    assert names.index("early") < names.index("name_nodes")
    assert names.index("last") > names.index("unshare_weights")


def test_hook_register_passes_refuses_an_impossible_order(manager: PluginManager):
    class Plugin:
        @hookimpl
        def ort_quant_register_passes(self, registry):
            registry.add("lost", Pass("lost"), after=("nowhere",))

    manager.register(Plugin(), name="plugin")
    with pytest.raises(PluginError, match="'lost' wants to run after 'nowhere'"):
        manager.pipeline()


def test_hook_register_exporters(manager: PluginManager):
    class Exporter(FakeQuantExporter):
        name = "mine"
        target = "npu"

    class Plugin:
        @hookimpl
        def ort_quant_register_targets(self, registry):
            registry.add("npu", Target("npu", "somebody's accelerator"))

        @hookimpl
        def ort_quant_register_exporters(self, registry):
            registry.add("mine", Exporter())

    manager.register(Plugin(), name="plugin")
    assert list(manager.exporters()) == ["fake_quant", "ascend", "ort", "qdq", "mine"]


@pytest.mark.parametrize(
    ("serves", "reason"),
    [
        ("npu", "serves the target 'npu', which is not registered; expected one of: fake_quant, ascend, ort, qdq"),
        ("qdq", "serves the target 'qdq', which 'qdq' of plugin 'builtin'"),
    ],
)
def test_hook_register_exporters_needs_a_target_of_its_own(manager: PluginManager, serves: str, reason: str):
    class Exporter(FakeQuantExporter):
        name = "mine"
        target = serves

    class Plugin:
        @hookimpl
        def ort_quant_register_exporters(self, registry):
            registry.add("mine", Exporter())

    manager.register(Plugin(), name="early")
    failed = manager.describe()[1]
    assert reason in failed["error"]
    assert list(manager.exporters()) == ["fake_quant", "ascend", "ort", "qdq"]
    with pytest.raises(PluginError, match="serves the target"):
        manager.register(Plugin(), name="late")


def test_hook_register_importers(manager: PluginManager):
    def importer(path: Path, layers: object) -> dict[str, Any]:
        return {}

    class Plugin:
        @hookimpl
        def ort_quant_register_importers(self, registry):
            registry.add("table", importer)

    manager.register(Plugin(), name="plugin")
    assert dict(manager.importers()) == {"table": importer}


def test_hook_register_targets(manager: PluginManager):
    class Plugin:
        @hookimpl
        def ort_quant_register_targets(self, registry):
            registry.add("npu", Target("npu", "somebody's accelerator"))

    manager.register(Plugin(), name="plugin")
    assert list(manager.targets()) == ["fake_quant", "ascend", "ort", "qdq", "npu"]


def test_hook_register_metrics(manager: PluginManager):
    class Plugin:
        @hookimpl
        def ort_quant_register_metrics(self, registry):
            registry.add("zero", lambda reference, candidate: 0.0)

    manager.register(Plugin(), name="plugin")
    assert manager.metrics()["zero"](1, 2) == 0.0
    assert manager.metrics()["mse"]([1.0], [3.0]) == 4.0


def test_hook_register_gate_metrics(manager: PluginManager):
    class Hits(SampleMetric):
        name = "hits"
        summary = "all right"

        def rows(self, batch, outputs):
            return [[1.0]] * batch.size

    class Plugin:
        @hookimpl
        def ort_quant_register_gate_metrics(self, registry):
            registry.add("hits", Hits())

    class NoMetric:
        @hookimpl
        def ort_quant_register_gate_metrics(self, registry):
            registry.add("print", print)

    manager.register(Plugin(), name="plugin")
    assert next(iter(manager.gate_metrics())) == "top1"
    assert manager.gate_metrics()["hits"].kind == "pair"
    with pytest.raises(PluginError, match=r"is a builtin_function_or_method; expected a GateMetric"):
        manager.register(NoMetric(), name="no_metric")


def test_hook_register_op_libraries(manager: PluginManager, tmp_path: Path):
    class Plugin:
        @hookimpl
        def ort_quant_register_op_libraries(self, registry):
            registry.add("mine", tmp_path / "libmine.so")

    manager.register(Plugin(), name="plugin")
    assert dict(manager.op_libraries()) == {"mine": tmp_path / "libmine.so"}


def test_hook_register_commands(manager: PluginManager):
    @click.command()
    def hello() -> None:
        """Say hello."""

    class Plugin:
        @hookimpl
        def ort_quant_register_commands(self, registry):
            registry.add("hello", hello)

    class NoCommand:
        @hookimpl
        def ort_quant_register_commands(self, registry):
            registry.add("print", print)

    manager.register(Plugin(), name="plugin")
    assert dict(manager.commands()) == {"hello": hello}
    with pytest.raises(PluginError, match=r"expected a click\.Command"):
        manager.register(NoCommand(), name="no_command")


def test_hook_register_commands_is_called_once(manager: PluginManager):
    """The commands are filled on their own, at the start of the command line; nothing may fill them again."""

    class Plugin:
        @hookimpl
        def ort_quant_register_commands(self, registry):
            registry.add("hello", click.Command("hello"))

    manager.register(Plugin(), name="plugin")
    assert list(manager.commands()) == ["hello"]
    assert "hello" not in manager.metrics()
    assert [plugin["error"] for plugin in manager.describe()] == [None, None]


def test_hook_should_quantize(manager: PluginManager):
    class First:
        @hookimpl
        def ort_quant_should_quantize(self, node, config):
            assert config is CONFIG
            return {"a": False, "b": True}.get(node.name)

    class Second:
        @hookimpl
        def ort_quant_should_quantize(self, node):
            return False if node.name in "bc" else None

    assert manager.reason_to_skip(node("a"), CONFIG) is None
    manager.register(Second(), name="second")
    manager.register(First(), name="first")
    reasons = {name: manager.reason_to_skip(node(name), CONFIG) for name in "abcd"}
    assert reasons == {
        "a": "plugin 'first' keeps it float",
        "b": None,
        "c": "plugin 'second' keeps it float",
        "d": None,
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: 0, "answered 0 for node 'conv1'; expected True, False or None"),
        (lambda: "no", "answered 'no' for node 'conv1'"),
        (lambda: 1 / 0, "failed in ort_quant_should_quantize: ZeroDivisionError"),
    ],
)
def test_hook_should_quantize_never_guesses(manager: PluginManager, answer: Any, reason: str):
    class Plugin:
        @hookimpl
        def ort_quant_should_quantize(self, node):
            return answer()

    manager.register(Plugin(), name="plugin")
    with pytest.raises(PluginError, match=reason) as caught:
        manager.reason_to_skip(node("conv1"), CONFIG)
    assert "plugin 'plugin'" in caught.value.message


def test_hook_modify_pipeline(manager: PluginManager):
    class Plugin:
        @hookimpl
        def ort_quant_modify_pipeline(self, pipeline, config):
            pipeline.remove("fuse_conv_bn" if config is CONFIG else "fuse_bn_mul")

    builtin = list(manager.passes())
    manager.register(Plugin(), name="plugin")
    assert manager.pipeline(CONFIG).names() == [name for name in builtin if name != "fuse_conv_bn"]
    assert manager.pipeline().names() == [name for name in builtin if name != "fuse_bn_mul"]


def test_hook_modify_pipeline_stops_the_run_when_it_fails(manager: PluginManager):
    class Plugin:
        @hookimpl
        def ort_quant_modify_pipeline(self, pipeline):
            pipeline.remove("no_such_pass")

    manager.register(Plugin(), name="plugin")
    with pytest.raises(PluginError, match=r"plugin 'plugin' failed in ort_quant_modify_pipeline: .*'no_such_pass'"):
        manager.pipeline()


def test_hook_report(manager: PluginManager, caplog: pytest.LogCaptureFixture):
    class Good:
        @hookimpl
        def ort_quant_report(self, report):
            return ReportSection("Layers", str(len(report.layers)))

    class Silent:
        @hookimpl
        def ort_quant_report(self, report):
            return None

    class Broken:
        @hookimpl
        def ort_quant_report(self, report):
            return "Layers: 0"

    for name, plugin in {"good": Good(), "silent": Silent(), "broken": Broken()}.items():
        manager.register(plugin, name=name)
    caplog.set_level(logging.WARNING)
    broken, good = manager.report_sections(QuantizationReport({}, []))
    assert good == ReportSection("Layers", "0")
    assert broken.title == "plugin 'broken' failed"
    assert "returned 'Layers: 0'; expected a ReportSection or None" in broken.text
    assert len(caplog.records) == 1


def test_hooks_run_in_the_order_they_ask_for(manager: PluginManager):
    order: list[str] = []

    class Late:
        @hookimpl(trylast=True)
        def ort_quant_modify_pipeline(self, pipeline):
            order.append("late")

    class Early:
        @hookimpl
        def ort_quant_modify_pipeline(self, pipeline):
            order.append("early")

    manager.register(Early(), name="early")
    manager.register(Late(), name="late")
    manager.pipeline()
    assert order == ["early", "late"]
