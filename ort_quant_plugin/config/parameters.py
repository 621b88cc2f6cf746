"""One configuration key: its type, default and range, and the check that enforces them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ort_quant_plugin.errors import ConfigError

__all__ = ["Parameter", "refuse_repeated", "refuse_unknown"]

Kind = Literal["bool", "int", "float", "str", "range", "names", "objects", "object"]

_KINDS: dict[str, str] = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "range": "a list of two numbers",
    "names": "a list of strings",
    "objects": "a list of objects",
    "object": "an object",
}


@dataclass(frozen=True)
class Parameter:
    """A key of a configuration file.

    Attributes:
        name: The key.
        kind: Type of the value; ``range`` is a list of two numbers, read as a tuple.
        default: Value when the key is absent; ``None`` where another key or the layer decides.
        range: The legal values, for people.
        doc: One sentence for the reference pages.
        check: Whether a value of the right type is legal; ``None`` = all are.
    """

    name: str
    kind: Kind
    default: Any
    range: str
    doc: str
    check: Callable[[Any], bool] | None = None

    @property
    def expected(self) -> str:
        """Type and range in words."""
        return f"{_KINDS[self.kind]}, {self.range}" if self.range else _KINDS[self.kind]

    def parse(self, value: object, where: str, **details: object) -> Any:
        """Check a value and bring it into its python form.

        Args:
            value: What the file holds; ``true`` is no integer and ``3`` is a number.
            where: File and layer, for the message.
            details: Further details of the error.

        Raises:
            ConfigError: The type or the range is wrong.
        """
        try:
            parsed = _PARSERS[self.kind](value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.error(value, where, **details) from error
        if self.kind == "names":
            refuse_repeated(parsed, f"{where}: {self.name}")
        if self.check is not None and not self.check(parsed):
            raise self.error(value, where, **details)
        return parsed

    def error(self, value: object, where: str, **details: object) -> ConfigError:
        """The error for an illegal value."""
        shown = repr(value)
        return ConfigError(
            f"{where}: {self.name} = {shown if len(shown) <= 80 else shown[:77] + '...'}; expected {self.expected}.",
            hint=f"Correct {self.name}, or leave it out to get the default.",
            key=self.name,
            value=value,
            **details,
        )


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _range(value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple):
        raise TypeError
    start, end = value
    return _float(start), _float(end)


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(_str(item) for item in value)


def _objects(value: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(_object(item) for item in value)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return value


_PARSERS: dict[str, Callable[[object], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _str,
    "range": _range,
    "names": _names,
    "objects": _objects,
    "object": _object,
}


def refuse_repeated(names: Iterable[object], where: str) -> None:
    """Refuse a list that holds a value twice.

    Raises:
        ConfigError: Names the repeated values (AMCT's text).
    """
    seen: set[object] = set()
    repeated: list[object] = []
    for name in names:
        if name in seen and name not in repeated:
            repeated.append(name)
        seen.add(name)
    if repeated:
        shown = ", ".join(map(repr, repeated))
        raise ConfigError(
            f"Please delete repeated items in {where}: {shown}.",
            hint="Keep one of each.",
            where=where,
            repeated=repeated,
        )


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse keys that mean nothing.

    Raises:
        ConfigError: Names the first one and the nearest legal key (AMCT's text).
    """
    known = tuple(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{where}: {key} is an invalid layer name or parameter.",
                hint=f"Did you mean {near[0]!r}?" if near else f"Legal here: {_some(known)}.",
                key=key,
                where=where,
            )


def _some(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
