"""Managers without installed plugins, and distributions that exist only for a test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ort_quant_plugin.plugins import PluginManager, build_plugin_manager

if TYPE_CHECKING:
    from pathlib import Path

MakeDistribution = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_plugin_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_QUANT_PLUGINS", raising=False)
    monkeypatch.delenv("ORT_QUANT_TRACE_HOOKS", raising=False)


@pytest.fixture
def manager() -> PluginManager:
    """The built-ins and nothing else."""
    return build_plugin_manager(load_entry_points=False)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeDistribution:
    """Installs ``<name>`` 1.0 with a module of the given source and an entry point, in a folder of its own."""

    def make(name: str, source: str, *, entry_point: str | None = None) -> None:
        folder = tmp_path / f"site_{name}"
        metadata = folder / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[ort_quant_plugin]\n{entry_point or name} = {name}_module\n")
        (folder / f"{name}_module.py").write_text(source)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, f"{name}_module", raising=False)

    return make
