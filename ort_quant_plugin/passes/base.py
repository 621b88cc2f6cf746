"""What a pass is: a callable that rewrites a model in place and says what it did and what it declined.

Every pass keeps three promises, which the pipeline checks after each one:

1. the model computes the same outputs (up to float re-association where the pass folds arithmetic);
2. required inputs and outputs keep their names and order;
3. a value name that exists before and after stands for the same tensor, so float and prepared model can be
   compared value by value (a fused layer takes over the name of the *last* value it replaces).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Change", "Declined", "GraphPass", "PassContext", "PassReport", "Phase"]


class Phase(enum.Enum):
    """When a pass runs; phases run in this order."""

    PREPARE = "prepare"
    """Bring the model into the normal form that the other passes and the layer table expect. Runs once."""
    FUSE = "fuse"
    """Fold operators into layers. Repeated until no pass of the phase changes anything: one fusion enables the next."""


@dataclass(frozen=True)
class Change:
    """Something a pass did.

    Attributes:
        where: Name of the node or value.
        what: What was done, a clause without a full stop.
    """

    where: str
    what: str


@dataclass(frozen=True)
class Declined:
    """Something a pass looked at and left alone.

    Attributes:
        where: Name of the node or value.
        reason: Why, a clause without a full stop.
    """

    where: str
    reason: str


@dataclass
class PassReport:
    """The outcome of one pass.

    Attributes:
        name: Name of the pass.
        changes: What it did, in graph order.
        declined: What it left alone, with reasons.
    """

    name: str
    changes: list[Change] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)

    def change(self, where: str | None, what: str) -> None:
        """Note something done."""
        self.changes.append(Change(where or "", what))

    def decline(self, where: str | None, reason: str) -> None:
        """Note something left alone."""
        self.declined.append(Declined(where or "", reason))


@dataclass(frozen=True)
class PassContext:
    """What the user decided about graph preparation.

    Attributes:
        do_fusion: Whether the FUSE phase may fuse at all (AMCT ``do_fusion``).
        skip_fusion_layers: Names of nodes that take no part in a fusion (AMCT ``skip_fusion_layers``).
    """

    do_fusion: bool = True
    skip_fusion_layers: frozenset[str] = frozenset()

    def refusal(self, *names: str | None) -> str | None:
        """Why nodes of these names must not be fused; ``None`` when they may be."""
        if not self.do_fusion:
            return "do_fusion is false"
        skipped = [name for name in names if name in self.skip_fusion_layers]
        return f"{skipped[0]!r} is in skip_fusion_layers" if skipped else None


@runtime_checkable
class GraphPass(Protocol):
    """A pass: an object with a name, a phase and a call.

    Attributes:
        name: ``[a-z][a-z0-9_-]*``, unique in a pipeline.
        phase: When it runs.
    """

    name: str
    phase: Phase

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Rewrite ``model`` in place and report."""
        ...
