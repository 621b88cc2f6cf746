"""What a gate demands: the metric, the models and data to measure it on, and the thresholds.

This module imports nothing heavy, so that pytest can read gates before it knows whether any of them will run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ort_quant_plugin.errors import ConfigError

__all__ = ["Gate", "baseline_parts", "without_folders"]

_THRESHOLDS = ("max_drop", "min_value", "max_value")
_PATHS = ("model", "reference", "labels")
_CALLABLES = ("decode", "characters")
_FILES = (*_CALLABLES, "python")
_NAME = re.compile(r"[\w./\[\]-]+")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One accuracy gate.

    A gate is judged by every threshold it has:

    * ``max_drop``: the value may be worse by at most that much, in the metric's unit, than the *base*: the value in
      ``baseline`` where there is one, else the reference model's value, else (for metrics that compare two models,
      such as ``agreement``) the value of equal models.
    * ``min_value``, ``max_value``: limits of the value itself.

    Attributes:
        name: Unique among the gates of one run; letters, digits and ``_ - . / [ ]``.
        metric: Name of a gate metric (``ort-quant plugins`` lists them).
        model: The quantized model.
        reference: The float model it was made from.
        data: Evaluation data, anything ``--data`` takes.
        labels: The truth the metric wants: class indices, a COCO annotation file, texts.
        max_drop: See above; at least 0.
        min_value: See above.
        max_value: See above.
        baseline: Name of the stored baseline.
        significance: One-sided level in (0, 0.5]. When set, a threshold counts as missed only if the confidence
            bound of the measured value or drop misses it too, so that few samples cannot fail a gate by chance.
        max_samples: Use at most that many samples.
        batch_size: Samples per inference.
        threads: Intra-op threads of the sessions.
        preprocess: Options of image preprocessing, as the command line spells them (``mean``, ``std``, ``resize`` …).
        options: Options of the metric (``k``, ``output``, ``decode`` …).
        op_libraries: Libraries of custom operators the models use.
        layers: Whether a missed gate names the layers to blame.
    """

    name: str
    metric: str
    model: str | None = None
    reference: str | None = None
    data: str | None = None
    labels: str | None = None
    max_drop: float | None = None
    min_value: float | None = None
    max_value: float | None = None
    baseline: str | None = None
    significance: float | None = None
    max_samples: int | None = None
    batch_size: int = 1
    threads: int = 1
    preprocess: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    op_libraries: tuple[str, ...] = ()
    layers: bool = True

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], *, where: str, base: Path) -> Gate:
        """Make a gate of keyword arguments or a TOML table; unknown keys are options of the metric.

        Args:
            settings: Values by name; ``None`` counts as not given.
            where: What to name in errors: a test's node id, or a table of a file.
            base: Folder that relative paths start from.

        Raises:
            ConfigError: A value has the wrong type or range, or nothing could ever fail the gate.
        """
        known = {item.name for item in fields(cls)}
        given = {key: value for key, value in settings.items() if key in known and value is not None}
        options = {key: value for key, value in settings.items() if key not in known and value is not None}
        if "metric" not in given:
            raise ConfigError(f"{where}: the gate has no metric.", hint="Add metric=…, such as 'top1' or 'sqnr_db'.")
        if "name" not in given:
            raise ConfigError(f"{where}: the gate has no name.", hint="Add name=….")
        for key in ("options", "preprocess"):
            if not isinstance(given.get(key, {}), Mapping):
                raise _wrong(where, key, given[key], "settings by name")
        for key in _PATHS:
            if key in given:
                given[key] = _path(given[key], key, where, base)
        if "data" in given:
            given["data"] = _file_or_callable(given["data"], "data", where, base)
        given["options"] = MappingProxyType(_option_paths({**given.get("options", {}), **options}, where, base))
        given["preprocess"] = MappingProxyType(dict(given.get("preprocess", {})))
        given["op_libraries"] = _libraries(given.get("op_libraries", ()), where, base)
        gate = cls(**given)
        gate._check(where)
        if gate.baseline is not None:
            baseline_parts(gate.baseline, where)
        return gate

    def _check(self, where: str) -> None:
        for key in (*_THRESHOLDS, "significance"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise _wrong(where, key, value, "a number")
            if value is not None and not math.isfinite(value):
                raise _wrong(where, key, value, "a finite number")
        for key in ("max_samples", "batch_size", "threads"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise _wrong(where, key, value, "an integer of at least 1")
        for key in ("name", "metric", "baseline"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, str) or not value):
                raise _wrong(where, key, value, "a name")
        if not _NAME.fullmatch(self.name):
            raise _wrong(where, "name", self.name, "letters, digits and any of _ - . / [ ]")
        if not isinstance(self.layers, bool):
            raise _wrong(where, "layers", self.layers, "true or false")
        if self.max_drop is not None and self.max_drop < 0:
            raise _wrong(where, "max_drop", self.max_drop, "at least 0")
        if self.significance is not None and not 0 < self.significance <= 0.5:
            raise _wrong(where, "significance", self.significance, "a level in (0, 0.5], such as 0.05")
        if all(getattr(self, key) is None for key in _THRESHOLDS):
            raise ConfigError(
                f"{where}: the gate has no threshold, so nothing could fail it.",
                hint="Add max_drop=, min_value= or max_value=.",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form: what is not at its default."""
        found = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, MappingProxyType):
                value = dict(value)
            if value not in (None, {}, ()) and value != item.default:
                found[item.name] = list(value) if isinstance(value, tuple) else value
        return found


def baseline_parts(name: str, where: str | None = None) -> list[str]:
    """The folders of a baseline, and its name.

    Raises:
        ConfigError: The name leads out of the folder of baselines or names no file.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        subject = repr(name) if where is None else f"{where}: {name!r}"
        raise ConfigError(
            f"{subject} is no name of a baseline; expected parts separated by '/', none of them empty, '.' or '..'.",
            hint="Use a name such as 'resnet18-int8' or 'test_gates/top1'.",
            value=name,
        )
    return parts


def without_folders(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a metric as they are on every machine: files by their names alone."""
    return {key: Path(str(value)).name if key in _FILES and value else value for key, value in options.items()}


def _wrong(where: str, key: str, value: object, expected: str) -> ConfigError:
    return ConfigError(
        f"{where}: {key} is {value!r}; expected {expected}.", hint=f"Correct {key}.", value=value, expected=expected
    )


def _path(value: object, key: str, where: str, base: Path) -> str:
    if not isinstance(value, (str, PathLike)) or not str(value):
        raise _wrong(where, key, value, "a path")
    return str(base / value)  # an absolute path stays what it is


def _file_or_callable(value: object, key: str, where: str, base: Path) -> str:
    """A path relative to ``base`` where there is such a file; ``module:callable`` and ``a;b`` stay as they are."""
    text = _path(value, key, where, base) if isinstance(value, PathLike) else value
    if not isinstance(text, str) or not text:
        raise _wrong(where, key, value, "a path or module:callable")
    head, colon, name = text.rpartition(":")
    if colon and (base / head).is_file():
        return f"{base / head}:{name}"
    return str(base / text) if (base / text).exists() or (not colon and ";" not in text) else text


def _option_paths(options: dict[str, Any], where: str, base: Path) -> dict[str, Any]:
    """Options of metrics that name files start from ``base`` too; a bare ``python`` is looked for in PATH."""
    found = {key: _file_or_callable(options[key], key, where, base) for key in _CALLABLES if key in options}
    if "/" in str(options.get("python", "")):
        found["python"] = _path(options["python"], "python", where, base)
    return options | found


def _libraries(value: object, where: str, base: Path) -> tuple[str, ...]:
    """Paths relative to ``base``; a bare name that is not there is left to the loader."""
    listed = [value] if isinstance(value, (str, PathLike)) else value
    if not isinstance(listed, Sequence):
        raise _wrong(where, "op_libraries", value, "a list of paths")
    paths = [(str(item), _path(item, "op_libraries", where, base)) for item in listed]
    return tuple(path if "/" in name or Path(path).exists() else name for name, path in paths)
