"""From markers to gates: checked when tests are collected, so that a wrong one stops the run before any inference.

Most pytest runs have no gate: what only gates need is imported when the first one is found.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from ort_quant_plugin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.pytest_options import GateOptions

__all__ = ["GATE", "MARKER", "baseline_folder", "capped", "collect_gates"]

MARKER = "quant_gate"
GATE = pytest.StashKey["Gate"]()
_THRESHOLDS = ("max_drop", "min_value", "max_value")


def collect_gates(items: Sequence[pytest.Item], options: GateOptions) -> tuple[list[pytest.Item], list[str]]:
    """Find the marked tests and give each its gate, as ``item.stash[GATE]``.

    Returns:
        The tests that have one, and what is wrong with the markers, one sentence each.
    """
    marked = [item for item in items if item.get_closest_marker(MARKER) is not None]
    found = [_equip(item, name, options) for item, name in zip(marked, _names(marked), strict=True)]
    errors = [error for error in found if error is not None]
    gates = [item for item in marked if GATE in item.stash]
    names = {item.nodeid: item.stash[GATE].name for item in gates}
    stored = {
        item.nodeid: str(baseline_folder(item, options) / baseline)
        for item in gates
        if (baseline := item.stash[GATE].baseline) is not None
    }
    return gates, [*errors, *_shared(names, "name"), *_shared(stored, "baseline")]


def baseline_folder(item: pytest.Item, options: GateOptions) -> Path:
    """Where the baselines of a test lie."""
    return options.baseline_dir or item.path.parent / "quant_baselines"


def _equip(item: pytest.Item, name: str, options: GateOptions) -> str | None:
    """Give a marked test its gate, or say why there is none."""
    try:
        item.stash[GATE] = _gate(item, name, options)
    except ConfigError as error:
        return str(error)
    return None


def _gate(item: pytest.Item, name: str, options: GateOptions) -> Gate:
    from ort_quant_plugin.gates.gate import Gate

    settings: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(MARKER))):  # module, class, function: the nearest says the last word
        if marker.args:
            raise ConfigError(
                f"{item.nodeid}: the marker {MARKER} has the positional argument {marker.args[0]!r}; expected keyword "
                "arguments only.",
                hint=f"Write {MARKER}(metric=…, max_drop=…).",
            )
        settings.update(marker.kwargs)
    settings.setdefault("name", name)
    if settings.get("baseline") is True:
        settings["baseline"] = f"{item.path.stem}/{item.name}"
    for key, value in (("data", options.data), ("labels", options.labels)):
        settings.setdefault(key, value)
    if all(settings.get(key) is None for key in _THRESHOLDS):
        settings["max_drop"] = options.default_max_drop
    return capped(Gate.from_mapping(settings, where=item.nodeid, base=item.config.rootpath), options)


def capped(gate: Gate, options: GateOptions) -> Gate:
    """The gate, with no more samples than the command line allows."""
    if options.max_samples is None:
        return gate
    return replace(gate, max_samples=min(options.max_samples, gate.max_samples or options.max_samples))


def _names(items: Sequence[pytest.Item]) -> list[str]:
    """Default names of gates: those of the tests, with class and file where two tests have the same.

    Parameters may differ in characters only that names of gates cannot have: such names are numbered.
    """
    seen = Counter(item.name for item in items)
    plain = [_gate_name(item.name if seen[item.name] == 1 else item.nodeid.replace("::", "/")) for item in items]
    taken, names = set(plain), list[str]()
    for name in plain:
        numbers = (f"{name}-{number}" for number in count(2))
        names.append(name if name not in names else next(other for other in numbers if other not in taken))
        taken.add(names[-1])
    return names


def _gate_name(text: str) -> str:
    return re.sub(r"[^\w\-./\[\]]", "_", text, flags=re.ASCII)


def _shared(used: Mapping[str, str], what: str) -> list[str]:
    owners: dict[str, str] = {}
    return [
        f"{nodeid}: {what} {value!r} is that of {owner} too. Hint: Give each gate a {what} of its own."
        for nodeid, value in used.items()
        if (owner := owners.setdefault(value, nodeid)) != nodeid
    ]
