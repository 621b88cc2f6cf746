"""What lowering did, as plain data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LoweredLayer", "LoweringReport"]


@dataclass(frozen=True)
class LoweredLayer:
    """One quantized layer of the deploy model.

    Attributes:
        name: Node name of the layer.
        op_type: ONNX operator.
        operator: What computes it now: ``QConv``, ``QGemm`` …; its own operator when it stays float. A node of
            ``QConvChain`` computes two or three layers.
        fused: Operators that run in its epilogue, in order.
        reason: Why it is computed in float, ``None`` for an int8 layer.
        chain: Name of the QConvChain node that computes it, if one does.
    """

    name: str
    op_type: str
    operator: str
    fused: tuple[str, ...] = ()
    reason: str | None = None
    chain: str | None = None


@dataclass
class LoweringReport:
    """A lowered model.

    Attributes:
        layers: Every quantized layer of the deploy model, in graph order.
        operators: How often each operator occurs in the lowered model.
        notes: What else a user must know.
        output: The written file, if any.
    """

    layers: list[LoweredLayer] = field(default_factory=list)
    operators: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    output: Path | None = None

    @property
    def int8(self) -> list[LoweredLayer]:
        """Layers that are computed in int8."""
        return [layer for layer in self.layers if layer.reason is None]

    @property
    def stayed_float(self) -> dict[str, str]:
        """Reason by name for layers that are computed in float."""
        return {layer.name: layer.reason for layer in self.layers if layer.reason is not None}

    def summary(self) -> str:
        """``50 of 50 quantized layers run in int8 (2 QConv, 1 QGemm, 47 in 16 QConvChain), 1 tensor is …``."""
        kinds = Counter(layer.operator for layer in self.int8 if layer.chain is None)
        chains = [layer.chain for layer in self.int8 if layer.chain is not None]
        parts = [f"{number} {kind}" for kind, number in sorted(kinds.items())]
        parts += [f"{len(chains)} in {len(set(chains))} QConvChain"] if chains else []
        text = f"{len(self.int8)} of {len(self.layers)} quantized layers run in int8"
        if parts:
            text += f" ({', '.join(parts)})"
        borders = self.operators.get("QuantizeLayout", 0)
        return f"{text}, {borders} {'tensor is' if borders == 1 else 'tensors are'} quantized at borders"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        plain = dataclasses.asdict(self)
        plain["output"] = None if self.output is None else str(self.output)
        return plain | {"int8": len(self.int8), "float": len(self.stayed_float)}
