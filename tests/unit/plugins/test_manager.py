"""Loading, isolation of broken plugins, and the environment that steers both."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ort_quant_plugin.errors import PluginError
from ort_quant_plugin.plugins import Owner, PluginManager, Target, build_plugin_manager, hookimpl

MakeDistribution = Callable[..., None]

GOOD = """
from ort_quant_plugin.plugins import hookimpl

@hookimpl
def ort_quant_register_metrics(registry):
    registry.add("{metric}", lambda reference, candidate: 0.0)
"""


def described(manager: PluginManager) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in manager.describe()}


def test_managers_are_fresh():
    class Plugin:
        @hookimpl
        def ort_quant_register_metrics(self, registry):
            registry.add("mine", lambda reference, candidate: 0.0)

    first, second = (build_plugin_manager(load_entry_points=False) for _ in range(2))
    first.register(Plugin(), name="mine")
    assert "mine" in first.metrics()
    assert "mine" not in second.metrics()


def test_describe_is_json_ready_and_complete(manager: PluginManager, distribution: MakeDistribution):
    distribution("good", GOOD.format(metric="good_metric"))
    manager.load_entry_points()
    listed = described(manager)
    assert json.loads(json.dumps(manager.describe())) == manager.describe()
    assert list(listed) == ["builtin", "good"]
    assert listed["good"] == {
        "name": "good",
        "distribution": "good",
        "version": "1.0",
        "builtin": False,
        "hooks": ["ort_quant_register_metrics"],
        "registered": {"metrics": ["good_metric"]},
        "error": None,
    }
    assert listed["builtin"]["builtin"] is True
    assert manager.provenance() == [Owner("good", "good", "1.0")]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_module_nobody_has", "ModuleNotFoundError: No module named 'a_module_nobody_has'"),
        ("def broken(:", "SyntaxError"),
        (
            "from ort_quant_plugin.plugins import hookimpl\n@hookimpl\ndef ort_quant_register_metrik(registry): ...",
            "implements a hook that does not exist: PluginValidationError: unknown hook 'ort_quant_register_metrik'",
        ),
        (
            "from ort_quant_plugin.plugins import hookimpl\n@hookimpl\ndef ort_quant_register_metrics(registr): ...",
            "Argument(s) {'registr'} are declared in the hookimpl but can not be found in the hookspec",
        ),
        ("def ort_quant_register_metrics(registry): ...", "is not marked as a hook implementation"),
        (
            "from ort_quant_plugin.plugins import hookimpl\n@hookimpl\ndef ort_quant_register_metrics(registry): 1 / 0",
            "failed in ort_quant_register_metrics: ZeroDivisionError: division by zero",
        ),
        (GOOD.format(metric="cosine"), "registered twice: by plugin 'builtin'"),
        (GOOD.format(metric="Bad Name"), "The metric name 'Bad Name' of plugin 'broken' (broken 1.0) is malformed"),
        (GOOD.format(metric="m").replace("lambda reference, candidate: 0.0", "3"), "is a int without __call__"),
    ],
)
def test_a_broken_plugin_is_isolated(
    distribution: MakeDistribution, caplog: pytest.LogCaptureFixture, source: str, reason: str
):
    """One warning, listed as failed, and the plugin beside it works."""
    distribution("good", GOOD.format(metric="good_metric"))
    distribution("broken", source)
    caplog.set_level(logging.WARNING)
    manager = build_plugin_manager()
    listed = described(manager)
    assert reason in listed["broken"]["error"]
    assert "plugin 'broken' (broken 1.0)" in listed["broken"]["error"]
    assert (listed["broken"]["hooks"], listed["broken"]["registered"]) == ([], {})
    assert listed["good"]["error"] is None
    assert "good_metric" in manager.metrics()
    assert [record.getMessage() for record in caplog.records] == [listed["broken"]["error"]]
    assert "\n" not in listed["broken"]["error"]
    assert manager.provenance() == [Owner("good", "good", "1.0")]


def test_strict_raises_for_a_plugin_that_does_not_load(distribution: MakeDistribution):
    distribution("broken", "import a_module_nobody_has")
    with pytest.raises(PluginError, match="failed to load") as caught:
        build_plugin_manager(strict=True)
    assert caught.value.details["owner"] == Owner("broken", "broken", "1.0")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_strict_raises_for_a_plugin_that_does_not_register(distribution: MakeDistribution):
    distribution("broken", GOOD.format(metric="cosine"))
    manager = build_plugin_manager(strict=True)
    with pytest.raises(PluginError, match="registered twice"):
        manager.metrics()


def test_a_plugin_that_fails_late_is_taken_out_as_a_whole(distribution: MakeDistribution):
    """Its pass must not stay in the pipeline when its metric is refused."""
    distribution(
        "broken",
        GOOD.format(metric="cosine")
        + """
from ort_quant_plugin.plugins import Target
@hookimpl
def ort_quant_register_targets(registry):
    registry.add("mine", Target("mine", "mine"))
@hookimpl
def ort_quant_should_quantize(node):
    return False
""",
    )
    manager = build_plugin_manager()
    assert "mine" not in manager.targets()
    assert manager.reason_to_skip(None, None) is None  # type: ignore[arg-type]


def test_two_distributions_of_one_name(distribution: MakeDistribution):
    distribution("second", GOOD.format(metric="second_metric"), entry_point="same")
    distribution("first", GOOD.format(metric="first_metric"), entry_point="same")
    manager = build_plugin_manager()
    names = [(p["name"], p["distribution"], p["error"]) for p in manager.describe()][1:]
    assert names[0] == ("same", "first", None)
    assert names[1][:2] == ("same", "second")
    assert "taken twice: by plugin 'same' (first 1.0) and by plugin 'same' (second 1.0)" in names[1][2]
    assert "first_metric" in manager.metrics()
    assert "second_metric" not in manager.metrics()


def test_the_name_builtin_is_taken(distribution: MakeDistribution):
    distribution("impostor", GOOD.format(metric="impostor_metric"), entry_point="builtin")
    manager = build_plugin_manager()
    assert [p["error"] is None for p in manager.describe()] == [True, False]
    assert "impostor_metric" not in manager.metrics()
    assert "cosine" in manager.metrics()


@pytest.mark.parametrize(
    ("value", "loaded"), [(None, ["a_plugin", "b_plugin"]), ("", []), (" , ", []), ("b_plugin", ["b_plugin"])]
)
def test_environment_chooses_plugins(
    distribution: MakeDistribution, monkeypatch: pytest.MonkeyPatch, value: str | None, loaded: list[str]
):
    distribution("b_plugin", GOOD.format(metric="b"))
    distribution("a_plugin", GOOD.format(metric="a"))
    if value is not None:
        monkeypatch.setenv("ORT_QUANT_PLUGINS", value)
    assert sorted(described(build_plugin_manager()))[: len(loaded)] == loaded
    assert len(build_plugin_manager().describe()) == 1 + len(loaded)


def test_environment_names_a_plugin_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORT_QUANT_PLUGINS", "absent")
    listed = described(build_plugin_manager())
    assert (
        "ORT_QUANT_PLUGINS asks for plugin 'absent', which no installed distribution offers"
        in (listed["absent"]["error"])
    )
    with pytest.raises(PluginError, match="'absent'"):
        build_plugin_manager(strict=True)


def test_entry_points_stay_out_on_request(distribution: MakeDistribution):
    distribution("good", GOOD.format(metric="good_metric"))
    assert list(described(build_plugin_manager(load_entry_points=False))) == ["builtin"]


def test_tracing_writes_to_stderr(
    distribution: MakeDistribution, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    distribution("good", GOOD.format(metric="good_metric"))
    distribution("broken", GOOD.format(metric="cosine"))
    monkeypatch.setenv("ORT_QUANT_TRACE_HOOKS", "1")
    build_plugin_manager().metrics()
    captured = capsys.readouterr()
    assert "hook ort_quant_register_metrics(registry) -> good\n" in captured.err
    assert "hook ort_quant_register_metrics raised PluginError" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("value", [None, "0", ""])
def test_no_tracing_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
):
    if value is not None:
        monkeypatch.setenv("ORT_QUANT_TRACE_HOOKS", value)
    build_plugin_manager(load_entry_points=False).metrics()
    assert capsys.readouterr().err == ""


def test_registering_by_hand_raises_and_leaves_nothing(manager: PluginManager):
    class Clash:
        @hookimpl
        def ort_quant_register_targets(self, registry):
            registry.add("mine", Target("mine", "mine"))

        @hookimpl
        def ort_quant_register_metrics(self, registry):
            registry.add("cosine", lambda reference, candidate: 0.0)

    manager.metrics()
    with pytest.raises(PluginError, match="registered twice"):
        manager.register(Clash(), name="clash")
    assert "mine" not in manager.targets()
    assert list(described(manager)) == ["builtin"]


def test_registering_one_name_twice(manager: PluginManager):
    manager.register(object(), name="mine")
    with pytest.raises(PluginError, match="plugin 'mine' cannot be registered"):
        manager.register(object(), name="mine")
    assert list(described(manager)) == ["builtin", "mine"]


def test_a_plugin_registered_late_is_seen(manager: PluginManager):
    class Late:
        @hookimpl
        def ort_quant_register_metrics(self, registry):
            registry.add("late", lambda reference, candidate: 0.0)

    metrics = manager.metrics()
    manager.register(Late(), name="late")
    assert "late" in metrics
    assert list(manager.metrics())[-1] == "late"


def test_importing_and_asking_for_commands_is_light():
    """``ort-quant --help`` must not wait for onnx, numpy or ONNX Runtime."""
    code = (
        "import sys; from ort_quant_plugin.plugins import build_plugin_manager as build; "
        "build(load_entry_points=False).commands(); "
        "print([m for m in ('numpy', 'onnx', 'onnx_ir', 'onnxruntime') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
