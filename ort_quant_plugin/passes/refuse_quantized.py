"""Refuse a model that is quantized already.

Quantizing twice would put observers on integers. Quantized means any of: QuantizeLinear, DequantizeLinear,
DynamicQuantizeLinear, ``QLinear*``, ``*Integer`` and ``*NBits`` operators, AMCT's operators in any ``amct`` domain, and
the ``Ascend*`` operators that deploy models carry in the default domain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.model import all_graphs
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.rewrite import label

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RefuseQuantized"]

_QUANTIZED = re.compile(
    r"(Dynamic)?QuantizeLinear|DequantizeLinear|QLinear\w+|\w+Integer\w*|\w+NBits|Q(Attention|Gemm|MoE)"
)
_ASCEND = re.compile(r"Ascend(\w*Quant|Dequant|Requant)\w*")
_DOMAINS = re.compile(r"amct(\..*)?|ort_quant")
_SHOWN = 10


class RefuseQuantized:
    """Raises UnsupportedError when the model holds quantization operators; changes nothing."""

    name = "refuse_quantized"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Look at every node, also in bodies and functions.

        Raises:
            UnsupportedError: There is one.
        """
        nodes = [node for graph in all_graphs(model) for node in graph]
        nodes += [node for function in model.functions.values() for node in function.all_nodes()]
        found = [label(node) for node in nodes if _is_quantized(node)]
        if found:
            names = found if len(found) <= _SHOWN else [*found[:_SHOWN], f"… {len(found) - _SHOWN} more"]
            raise UnsupportedError(
                f"The model cannot be quantized for following quant layers are in the model [{', '.join(names)}].",
                hint="Give the float model it was made from.",
                layers=found,
            )
        return PassReport(self.name)


def _is_quantized(node: ir.Node) -> bool:
    if _DOMAINS.fullmatch(node.domain):
        return True
    if node.domain not in {"", "com.microsoft"}:
        return False
    return bool(_QUANTIZED.fullmatch(node.op_type) or _ASCEND.fullmatch(node.op_type))
