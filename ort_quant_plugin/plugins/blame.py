"""Errors that name the plugin they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.errors import OrtQuantError, PluginError

if TYPE_CHECKING:
    from ort_quant_plugin.plugins.registry import Owner

__all__ = ["blame", "has_owner"]


def has_owner(error: Exception) -> bool:
    """Whether ``error`` names the plugin it is about already (as the registries' errors do)."""
    return isinstance(error, PluginError) and "owner" in error.details


def blame(owner: Owner, what: str, error: Exception) -> PluginError:
    """The same error as one that names the plugin, in one line."""
    if isinstance(error, PluginError) and has_owner(error):
        return error
    text = error.message if isinstance(error, OrtQuantError) else f"{type(error).__name__}: {error}"
    blamed = PluginError(
        f"The {owner} {what}: {' '.join(text.split()).rstrip('.')}.",
        hint="Update or uninstall it, or leave it out: ORT_QUANT_PLUGINS lists the plugins to load.",
        owner=owner,
        cause=error,
    )
    blamed.__cause__ = error
    return blamed
