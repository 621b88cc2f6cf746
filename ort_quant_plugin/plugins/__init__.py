"""Plugins: hooks for other distributions, and the registries of everything that can be chosen by name.

A plugin author needs :data:`hookimpl` and the value types; a host needs :func:`build_plugin_manager`.
"""

from __future__ import annotations

from ort_quant_plugin.plugins.hookspecs import hookimpl
from ort_quant_plugin.plugins.kinds import ReportSection, Target
from ort_quant_plugin.plugins.manager import PluginManager, build_plugin_manager
from ort_quant_plugin.plugins.registry import Entry, Owner, Registrar, Registry

__all__ = [
    "Entry",
    "Owner",
    "PluginManager",
    "Registrar",
    "Registry",
    "ReportSection",
    "Target",
    "build_plugin_manager",
    "hookimpl",
]
