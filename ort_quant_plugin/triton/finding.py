"""What a check of a model repository says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

__all__ = ["Finding", "Findings", "Level"]

Level = Literal["error", "warning", "ok"]


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        level: ``error``: the model will not load or will answer wrongly; ``warning``: it may, or production will
            suffer; ``ok``: checked and right.
        model: Name of the model (its folder), or an empty string for the repository as a whole.
        subject: What was checked: ``config``, ``input 'x'``, ``version 1``, ``library`` …
        message: What was found, one sentence.
        hint: The cure, or ``None``.
    """

    level: Level
    model: str
    subject: str
    message: str
    hint: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """The fields by name."""
        return asdict(self)


@dataclass
class Findings:
    """The findings on one model, in the order they were made."""

    model: str
    found: list[Finding] = field(default_factory=list)

    def error(self, subject: str, message: str, hint: str | None = None) -> None:
        """Add what keeps the model from loading or from answering rightly."""
        self.found.append(Finding("error", self.model, subject, message, hint))

    def warning(self, subject: str, message: str, hint: str | None = None) -> None:
        """Add what may go wrong on the server, or hurts in production."""
        self.found.append(Finding("warning", self.model, subject, message, hint))

    def ok(self, subject: str, message: str) -> None:
        """Add what was checked and is right."""
        self.found.append(Finding("ok", self.model, subject, message))

    def has_errors(self, subject: str | None = None) -> bool:
        """Whether there is an error, on one subject or at all."""
        return any(f.level == "error" and subject in {None, f.subject} for f in self.found)
