"""The built-ins reach the registries through the hooks, all of them and in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ort_quant_plugin
from ort_quant_plugin import metrics
from ort_quant_plugin.calibration.methods import BUILTIN_METHODS
from ort_quant_plugin.config import ACTIVATION_ALGORITHMS, WEIGHT_ALGORITHMS
from ort_quant_plugin.export import BUILTIN_EXPORTERS
from ort_quant_plugin.passes import BUILTIN_PASSES, default_pipeline
from ort_quant_plugin.weights import BUILTIN_WEIGHT_QUANTIZERS

if TYPE_CHECKING:
    from ort_quant_plugin.plugins import PluginManager


def test_everything_shipped_is_registered(manager: PluginManager):
    assert list(manager.methods().values()) == list(BUILTIN_METHODS)
    assert list(manager.weight_quantizers().values()) == list(BUILTIN_WEIGHT_QUANTIZERS)
    assert list(manager.passes().values()) == list(BUILTIN_PASSES)
    assert list(manager.exporters().values()) == list(BUILTIN_EXPORTERS)
    assert dict(manager.metrics()) == metrics.BUILTIN_METRICS
    assert list(manager.targets()) == [exporter.target for exporter in BUILTIN_EXPORTERS]
    assert not manager.importers()
    assert not manager.op_libraries()
    assert not manager.commands()
    assert manager.provenance() == []


def test_every_entry_is_owned_by_the_package(manager: PluginManager):
    owners = {entry.owner for entry in manager.passes().entries() + manager.methods().entries()}  # type: ignore[operator]
    (owner,) = owners
    assert (owner.plugin, owner.distribution) == ("builtin", "ort-quant-plugin")


def test_pipeline_runs_as_the_default_one(manager: PluginManager):
    assert manager.pipeline().names() == default_pipeline().names()


def test_configuration_and_registries_agree(manager: PluginManager):
    """What a configuration may name exists, and the other way round."""
    algorithms = manager.algorithms()
    assert {name: algorithms[name] for name in ACTIVATION_ALGORITHMS} == ACTIVATION_ALGORITHMS  # AMCT's checks stay
    assert set(algorithms) == set(manager.methods())
    legal = {name for name, spec in WEIGHT_ALGORITHMS.items() if spec.refused is None}
    assert set(manager.weight_quantizers()) == legal


def test_hooks_are_called_in_one_module_only():
    package = Path(ort_quant_plugin.__file__).parent
    callers = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "_pm.hook" in (text := path.read_text(encoding="utf-8")) or "subset_hook_caller" in text
    ]
    assert callers == ["plugins/manager.py"]


def test_a_fault_of_the_package_is_not_blamed_on_a_plugin(manager: PluginManager, monkeypatch: pytest.MonkeyPatch):
    """Nobody could update or uninstall it: it must surface as the internal error it is."""
    monkeypatch.setattr(metrics, "BUILTIN_METRICS", None)
    with pytest.raises(AttributeError):
        manager.metrics()
