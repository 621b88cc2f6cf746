"""The interface of an exporter and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from ort_quant_plugin.export.plan import Plan

__all__ = ["ExportOptions", "Exported", "Exporter", "Findings"]


@dataclass(frozen=True)
class ExportOptions:
    """What the caller chose.

    Attributes:
        fake_quant_form: ``custom`` writes ``amct.customop`` nodes, ``onnx`` the plain-ONNX chain.
        op_libraries: Further custom-op libraries needed to load the model.
    """

    fake_quant_form: Literal["custom", "onnx"] = "custom"
    op_libraries: tuple[str, ...] = ()


@dataclass
class Exported:
    """A model made by an exporter.

    Attributes:
        model: The model, ready to be written.
        external_suffix: Suffix of its external data files, should it need them.
        notes: What a user must know: layers that stay float although they were calibrated, changed scales.
        stayed_float: Reason by layer name, for layers this target could not take although others can.
    """

    model: ir.Model
    external_suffix: str
    notes: list[str] = field(default_factory=list)
    stayed_float: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What an exporter said about a written model.

    Attributes:
        notes: As in :class:`Exported`.
        stayed_float: As in :class:`Exported`.
    """

    notes: list[str]
    stayed_float: dict[str, str]


class Exporter(Protocol):
    """Turns a calibrated model and a plan into the model of one target."""

    @property
    def name(self) -> str:
        """Registry name."""

    @property
    def target(self) -> str:
        """Target it serves (``--target``)."""

    @property
    def summary(self) -> str:
        """One line for listings."""

    @property
    def file_suffix(self) -> str:
        """What follows the prefix in the file name."""

    def export(self, model: ir.Model, plan: Plan, options: ExportOptions) -> Exported:
        """Make the target's model from a private copy of the calibrated model."""

    def verify(self, path: Path, exported: Exported, plan: Plan, options: ExportOptions) -> None:
        """Check the written file where it will run; findings go to ``exported.notes`` and ``exported.stayed_float``."""
