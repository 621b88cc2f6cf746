"""Finding plugins of installed distributions, and the two environment variables that steer it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import PluginError
from ort_quant_plugin.plugins.hookspecs import PROJECT
from ort_quant_plugin.plugins.registry import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pluggy

__all__ = ["PLUGINS_VARIABLE", "TRACE_VARIABLE", "Found", "builtin_owner", "find_entry_points", "trace_hooks"]

PLUGINS_VARIABLE = "ORT_QUANT_PLUGINS"
"""Which installed plugins load: unset = all, empty = none, a comma-separated list of entry-point names = those."""

TRACE_VARIABLE = "ORT_QUANT_TRACE_HOOKS"
"""Set to 1, every hook call is written to stderr."""


@dataclass(frozen=True)
class Found:
    """An entry point, or the lack of one that was asked for.

    Attributes:
        owner: Its name and distribution.
        problem: Why it cannot even be tried, ``None`` if it can.
    """

    owner: Owner
    problem: PluginError | None = None


def builtin_owner() -> Owner:
    """The owner of what the package ships; without a version when it runs from a source tree."""
    try:
        version: str | None = metadata.version("ort-quant-plugin")
    except metadata.PackageNotFoundError:
        version = None
    return Owner("builtin", "ort-quant-plugin", version)


def find_entry_points(taken: Mapping[str, Owner]) -> Iterator[Found]:
    """Yield the entry points of the group that the environment allows, in the order of ``sys.path``.

    A name that two distributions use is a clash: the second is yielded with a problem that names both.

    Args:
        taken: Plugins that are registered already, by name.
    """
    wanted = _wanted()
    seen = dict(taken)
    for entry_point in metadata.entry_points(group=PROJECT):
        distribution = entry_point.dist
        owner = Owner(
            entry_point.name,
            distribution.name if distribution else None,
            distribution.version if distribution else None,
        )
        if wanted is not None and owner.plugin not in wanted:
            continue
        first = seen.setdefault(owner.plugin, owner)
        yield Found(owner, None if first is owner else _clash(first, owner))
    for name in wanted or ():
        if name not in seen:
            yield Found(Owner(name), _not_installed(name))


def trace_hooks(manager: pluggy.PluginManager) -> None:
    """Write every hook call of ``manager`` to stderr if the environment asks for it."""
    if os.environ.get(TRACE_VARIABLE) == "1":
        manager.add_hookcall_monitoring(_before_hook, _after_hook)


def _wanted() -> list[str] | None:
    text = os.environ.get(PLUGINS_VARIABLE)
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


def _clash(first: Owner, second: Owner) -> PluginError:
    return PluginError(
        f"The plugin name {second.plugin!r} is taken twice: by {first} and by {second}; expected one owner.",
        hint="Uninstall one of them, or leave one out with ORT_QUANT_PLUGINS.",
        owner=second,
        first_owner=first,
    )


def _not_installed(name: str) -> PluginError:
    return PluginError(
        f"{PLUGINS_VARIABLE} asks for plugin {name!r}, which no installed distribution offers.",
        hint="Install it, or correct the name; 'ort-quant plugins' lists what is found.",
        plugin=name,
    )


def _before_hook(hook_name: str, hook_impls: Sequence[pluggy.HookImpl], kwargs: Mapping[str, object]) -> None:
    names = ", ".join(impl.plugin_name for impl in hook_impls)
    sys.stderr.write(f"hook {hook_name}({', '.join(kwargs)}) -> {names}\n")


def _after_hook(
    outcome: pluggy.Result[object],
    hook_name: str,
    hook_impls: Sequence[pluggy.HookImpl],
    kwargs: Mapping[str, object],
) -> None:
    del hook_impls, kwargs
    if outcome.exception is not None:
        sys.stderr.write(f"hook {hook_name} raised {outcome.exception!r}\n")
