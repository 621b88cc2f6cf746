"""A registry: named values of one kind, each with the plugin it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ort_quant_plugin.errors import PluginError

__all__ = ["NAME_PATTERN", "Entry", "Kind", "Owner", "Registrar", "Registry"]

T = TypeVar("T")

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class Owner:
    """Who registered something.

    Attributes:
        plugin: Name of the plugin (its entry point, or the name it was registered under).
        distribution: The installed distribution it came in; ``None`` for an object registered by hand.
        version: Version of that distribution.
    """

    plugin: str
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        origin = " ".join(part for part in (self.distribution, self.version) if part)
        return f"plugin {self.plugin!r}" + (f" ({origin})" if origin else "")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What one registry holds.

    Attributes:
        name: Name of the registry, plural, such as ``methods``.
        noun: One of its values in messages, such as ``calibration method``.
        problem: Tells what is wrong with a value (a clause that follows "the … 'name'"), ``None`` if nothing is.
        options: Names of the keyword options that :meth:`Registrar.add` takes, each a tuple of names.
        named: Whether values carry their name, which must then be the one they are registered under.
    """

    name: str
    noun: str
    problem: Callable[[object], str | None] = field(repr=False)
    options: tuple[str, ...] = ()
    named: bool = False

    @property
    def hook(self) -> str:
        """Name of the hook that fills the registry."""
        return f"ort_quant_register_{self.name}"


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered value.

    Attributes:
        name: Its name, unique in the registry.
        value: The value.
        owner: Who registered it.
        options: Options given with it, such as ``after`` and ``before`` of a pass.
    """

    name: str
    value: T
    owner: Owner
    options: Mapping[str, object]


class Registry(Mapping[str, T]):
    """Values by name, in the order of registration (built-ins first)."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def __getitem__(self, name: str) -> T:
        return self._entries[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, value: T, owner: Owner, **options: object) -> None:
        """Register ``value``.

        Raises:
            PluginError: The name is malformed, taken or not the value's own, the value is not of this kind, or an
                option is unknown. Names the owner, for a taken name both owners.
        """
        noun = self.kind.noun
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise PluginError(
                f"The {noun} name {name!r} of {owner} is malformed; expected a match of {NAME_PATTERN.pattern}.",
                hint="Use lower-case letters, digits, '_' and '-', a letter first.",
                name=name,
                owner=owner,
            )
        if name in self._entries:
            first = self._entries[name].owner
            raise PluginError(
                f"The {noun} {name!r} is registered twice: by {first} and by {owner}; expected one owner.",
                hint="Rename one of them, or leave one plugin out with ORT_QUANT_PLUGINS.",
                name=name,
                owner=owner,
                first_owner=first,
            )
        problem = self.kind.problem(value) or self._name_problem(name, value) or self._option_problem(options)
        if problem:
            raise PluginError(
                f"The {noun} {name!r} of {owner} {problem}.",
                hint=f"docs/reference/hooks.md, {self.kind.hook}, tells what is expected.",
                name=name,
                owner=owner,
                value=value,
            )
        self._entries[name] = Entry(name, value, owner, options)

    def entries(self) -> list[Entry[T]]:
        """All entries in order, with their owners and options."""
        return list(self._entries.values())

    def withdraw(self, owner: Owner) -> None:
        """Forget everything ``owner`` registered."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry.owner != owner}

    def _name_problem(self, name: str, value: object) -> str | None:
        own = getattr(value, "name", name) if self.kind.named else name
        return None if own == name else f"calls itself {own!r}; expected the name it is registered under"

    def _option_problem(self, options: Mapping[str, object]) -> str | None:
        known = ", ".join(self.kind.options) or "none"
        for option, value in options.items():
            if option not in self.kind.options:
                return f"was given the unknown option {option!r}; expected {known}"
            if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
                return f"was given {option} = {value!r}; expected a tuple of names"
        return None


@dataclass(frozen=True)
class Registrar(Generic[T]):
    """What a plugin is given: it can add to one registry, under its own name.

    Attributes:
        registry: The registry.
        owner: The plugin.
    """

    registry: Registry[T]
    owner: Owner

    def add(self, name: str, value: T, **options: object) -> None:
        """Register ``value`` as ``name``.

        Args:
            name: ``[a-z][a-z0-9_-]*``, unique among all plugins; equal to ``value.name`` where the value has one.
            value: The object.
            **options: What the hook's reference lists, nothing else.

        Raises:
            PluginError: See :meth:`Registry.add`.
        """
        self.registry.add(name, value, self.owner, **options)
