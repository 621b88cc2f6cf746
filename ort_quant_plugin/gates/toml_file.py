"""``gates.toml``: the gates of a project that has no pytest.

A file has ``[[gate]]`` tables with the arguments of the pytest marker, ``[defaults]`` for what they share, and
``baseline_dir``. Paths are relative to the file.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.files import read_text
from ort_quant_plugin.gates.gate import Gate

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

__all__ = ["GatesFile", "read_gates"]

_HINT = "docs/how-to/gate-in-ci.md shows one; run the command in its folder, or name it: ort-quant gate run FILE."
_BASELINE_DIR = "quant_baselines"
_TOP_LEVEL = ("baseline_dir", "defaults", "gate")
_SETTINGS = tuple(item.name for item in fields(Gate))
_THRESHOLDS = ("max_drop", "min_value", "max_value")
_ONE_GATE_ONLY = ("name", "metric", "baseline", "options")  # no use in [defaults]: they belong to one gate or metric


@dataclass(frozen=True)
class GatesFile:
    """What a ``gates.toml`` says.

    Attributes:
        path: The file.
        gates: In the order of the file; names are unique.
        baseline_dir: Folder of the stored baselines.
        lines: Where each gate stands in the file, by name; 1 is the first line.
    """

    path: Path
    gates: tuple[Gate, ...]
    baseline_dir: Path
    lines: Mapping[str, int]


def read_gates(path: str | os.PathLike[str]) -> GatesFile:
    """Read a ``gates.toml``.

    Whether the models and the data exist is found out when a gate is measured: judging saved measurements needs
    neither. Keys of a ``[[gate]]`` that are no setting are options of its metric, which knows whether it has them.

    Raises:
        ConfigError: The file is missing or no TOML (with line and column), has no gate, two gates share a name or a
            baseline, or a setting is unknown, ill-typed or out of range; the message names the table.
    """
    path = Path(path)
    text = read_text(path, what="Gates file", error=ConfigError, hint=_HINT)
    document = _parse(text, path)
    _refuse_unknown(document, _TOP_LEVEL, str(path))
    folder = document.get("baseline_dir", _BASELINE_DIR)
    if not isinstance(folder, str) or not folder:
        raise ConfigError(
            f"{path}: baseline_dir is {folder!r}; expected a folder.", hint="Write it in quotes.", path=str(path)
        )
    defaults = _defaults(document.get("defaults", {}), path)
    gates = tuple(_gate(table, number, defaults, path) for number, table in enumerate(_tables(document, path), 1))
    _refuse_repeated((gate.name for gate in gates), "the name", path)
    _refuse_repeated((gate.baseline for gate in gates if gate.baseline is not None), "the baseline", path)
    return GatesFile(path, gates, path.parent / folder, {gate.name: _line(text, gate.name) for gate in gates})


def _parse(text: str, path: Path) -> dict[str, Any]:
    toml = _toml_module(path)
    try:
        document: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is no TOML: {error}.", hint="Strings need quotes, a gate starts with [[gate]].", path=str(path)
        ) from error
    return document


def _toml_module(path: Path) -> Any:
    """The standard library's since Python 3.11, before that the package it was made of."""
    for name in ("tomllib", "tomli"):
        with suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise ConfigError(
        f"{path} cannot be read: Python 3.10 has no reader of TOML.",
        hint="Install one: pip install 'ort-quant-plugin[gate]'.",
        path=str(path),
    )


def _tables(document: Mapping[str, Any], path: Path) -> list[Any]:
    tables = document.get("gate", [])
    if isinstance(tables, dict):
        raise ConfigError(f"{path}: [gate] is one table.", hint="Write [[gate]], once for each gate.", path=str(path))
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{path} has no gate.", hint="Add a [[gate]] table with name, metric and a threshold.")
    return tables


def _line(text: str, name: str) -> int:
    """TOML's readers give no positions; a name that is written in an unusual way is looked for in vain."""
    found = re.search(rf"""^\s*name\s*=\s*["']{re.escape(name)}["']""", text, re.MULTILINE)
    return 1 if found is None else text.count("\n", 0, found.end()) + 1


def _defaults(defaults: Any, path: Path) -> dict[str, Any]:
    """Check the shared settings where they stand, so that an error names their table, not the first gate's."""
    where = f"{path}, [defaults]"
    if not isinstance(defaults, dict):
        raise ConfigError(f"{path}: defaults is {defaults!r}; expected a table.", hint="Write [defaults].")
    for key in _ONE_GATE_ONLY:
        if key in defaults:
            raise ConfigError(f"{where}: {key} belongs to one gate.", hint="Move it into the [[gate]] tables.", key=key)
    _refuse_unknown(defaults, _SETTINGS, where)
    Gate.from_mapping({"name": "defaults", "metric": "any", "min_value": 0, **defaults}, where=where, base=path.parent)
    return defaults


def _gate(table: Any, number: int, defaults: Mapping[str, Any], path: Path) -> Gate:
    where = f"{path}, [[gate]] number {number}"
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is {table!r}; expected a table.", hint="Write [[gate]], once for each gate.")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        problem = "has no name" if name is None else f"has the name {name!r}; expected text"
        raise ConfigError(f"{where} {problem}.", hint='Add name = "…": reports and --only use it.', key="name")
    where = f"{path}, gate '{name}'"
    return Gate.from_mapping(_with_defaults(table, defaults), where=where, base=path.parent)


def _with_defaults(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``preprocess`` is merged key by key; thresholds are taken over by gates that have none of their own."""
    own_threshold = any(key in table for key in _THRESHOLDS)
    merged = {key: value for key, value in defaults.items() if not (own_threshold and key in _THRESHOLDS)}
    merged.update(table)
    if isinstance(table.get("preprocess"), dict):
        merged["preprocess"] = {**defaults.get("preprocess", {}), **table["preprocess"]}
    return merged


def _refuse_unknown(given: Iterable[str], known: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{where}: {key} is no setting.",
                hint=f"Did you mean {near[0]!r}?" if near else f"Legal here: {', '.join(known)}.",
                key=key,
            )


def _refuse_repeated(names: Iterable[str], what: str, path: Path) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ConfigError(
                f"{path}: {times} gates have {what} '{name}'.",
                hint="Give each gate its own.",
                path=str(path),
                value=name,
            )
