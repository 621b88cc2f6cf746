"""Generators of the parts of docs/reference/gates.md: settings, metrics, pytest options, the keys of a report."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from inspect import getdoc
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.gates.measurement import GateResult, LayerBlame, Measurement, Verdict
from ort_quant_plugin.gates.metrics import BUILTIN_GATE_METRICS
from ort_quant_plugin.gates.pytest_options import add_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]

__all__ = ["generators"]

_TYPES = {"str": "string", "Mapping[str, Any]": "table", "tuple[str, ...]": "list of strings"}
_ROLE = re.compile(r":\w+:`(~?)([\w.]+)(?: <[^>]*>)?`")


def generators(table: Table) -> dict[str, Callable[[], str]]:
    """The generators by name; ``table`` makes a Markdown table of a head and rows."""
    return {
        "gate-settings": lambda: table(("setting", "type", "default", "meaning"), _settings()),
        "gate-metrics": lambda: table(("metric", "what it is", "unit", "better", "value of", "needs"), _metrics()),
        "gate-metric-options": lambda: table(("option", "type", "default", "values", "meaning", "of"), _options()),
        "gate-pytest-options": lambda: _pytest_options(table),
        "gate-result": lambda: _document(table, GateResult),
        "gate-measurement": lambda: f"{_document(table, Measurement)}\nA layer:\n\n{_document(table, LayerBlame)}",
        "gate-verdict": lambda: _document(table, Verdict),
    }


def _document(table: Table, cls: type) -> str:
    return table(("key", "meaning"), ((f"`{name}`", text) for name, text in _attributes(cls).items()))


def _settings() -> Iterable[tuple[str, ...]]:
    """The fields of Gate, as its docstring explains them."""
    meanings = _attributes(Gate)
    for field in fields(Gate):
        kind = str(field.type).removesuffix(" | None")
        default = "" if field.default in (MISSING, None, ()) else f"`{json.dumps(field.default)}`"
        yield f"`{field.name}`", _TYPES.get(kind, kind), default, meanings[field.name]


def _attributes(cls: type) -> dict[str, str]:
    """The ``Attributes:`` of a docstring, each on one line, in Markdown."""
    found: dict[str, str] = {}
    _, _, section = (getdoc(cls) or "").partition("Attributes:\n")
    for line in section.split("\n\n")[0].splitlines():
        name, colon, text = line.strip().partition(": ")
        if line.startswith("    ") and not line.startswith("     ") and colon:
            last, found[name] = name, text
        else:
            found[last] += f" {line.strip()}"
    return {name: _ROLE.sub(_role_text, text.replace("``", "`")) for name, text in found.items()}


def _role_text(role: re.Match[str]) -> str:
    return f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"


def _metrics() -> Iterable[tuple[str, ...]]:
    needs = (("needs_data", "data"), ("needs_labels", "labels"), ("needs_reference", "reference"))
    for metric in BUILTIN_GATE_METRICS:
        yield (
            f"`{metric.name}`",
            metric.summary,
            metric.unit or "–",
            "higher" if metric.higher_is_better else "lower",
            "each model" if metric.kind == "own" else "two models",
            ", ".join(name for attribute, name in needs if getattr(metric, attribute)),
        )


def _options() -> Iterable[tuple[str, ...]]:
    """A row an option, with the metrics that share it."""
    users: dict[tuple[str, ...], list[str]] = {}
    for metric in BUILTIN_GATE_METRICS:
        for option in metric.options:
            kind = {"int": "integer", "float": "number", "str": "string"}.get(option.kind, option.kind)
            default = "" if option.default is None else f"`{json.dumps(option.default)}`"
            row = (f"`{option.name}`", kind, default, option.range, option.doc)
            users.setdefault(row, []).append(f"`{metric.name}`")
    return ((*row, ", ".join(names)) for row, names in users.items())


class _Declared:
    """Takes the place of pytest's parser, and remembers what a plugin declares."""

    def __init__(self) -> None:
        self.options: list[tuple[str, str]] = []
        self.settings: list[tuple[str, str]] = []

    def getgroup(self, *_: str) -> _Declared:
        return self

    def addoption(self, name: str, *, help: str, metavar: str = "", choices: tuple[str, ...] = (), **_: Any) -> None:  # noqa: A002
        value = metavar or "/".join(choices)
        self.options.append((f"`{name}`" + (f" `{value}`" if value else ""), help))

    def addini(self, name: str, help: str, *_: Any, **__: Any) -> None:  # noqa: A002
        self.settings.append((f"`{name}`", help))


def _pytest_options(table: Table) -> str:
    declared: Any = _Declared()
    add_options(declared)
    return f"{table(('option', 'meaning'), declared.options)}\n{table(('ini setting', 'meaning'), declared.settings)}"
