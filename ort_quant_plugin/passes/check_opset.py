"""Bring the default operator set into the supported range.

Supported are opset 9 (the first whose BatchNormalization and MatMul mean what they mean today) to the newest that the
installed ``onnx`` knows. Older models go through ONNX's own version converter, to opset 11, or 9 where 11 fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.model import all_graphs, default_opset
from ort_quant_plugin.passes.base import PassContext, PassReport, Phase
from ort_quant_plugin.passes.naming import NameNodes

if TYPE_CHECKING:
    import onnx

__all__ = ["LOWEST_OPSET", "CheckOpset"]

LOWEST_OPSET = 9
_TARGETS = (11, 9)
_PROTOBUF_LIMIT = 2_000_000_000


class CheckOpset:
    """Converts opsets below 9; refuses unknown ones."""

    name = "check_opset"
    phase = Phase.PREPARE

    def __call__(self, model: ir.Model, context: PassContext) -> PassReport:
        """Check, and convert where needed.

        Raises:
            UnsupportedError: No default opset is imported though its operators are used; the opset is newer than
                ``onnx`` knows; or the conversion of an older one failed (with ONNX's reason).
        """
        import onnx

        report = PassReport(self.name)
        newest = onnx.defs.onnx_opset_version()
        opset = default_opset(model)
        if opset > newest:
            raise UnsupportedError(
                f"The model uses opset {opset}; expected {LOWEST_OPSET} to {newest}.",
                hint="Upgrade the onnx package (pip install -U onnx), or export with a lower opset.",
                opset=opset,
            )
        if opset == 0:
            self._require_no_default_ops(model, newest)
        elif opset < LOWEST_OPSET:
            target = _convert(model, opset)
            NameNodes()(model, context)  # the converter leaves nodes that it adds without names
            report.change(model.graph.name, f"converted from opset {opset} to {target}")
        return report

    def _require_no_default_ops(self, model: ir.Model, newest: int) -> None:
        node = next((node for graph in all_graphs(model) for node in graph if node.domain == ""), None)
        if node is not None:
            raise UnsupportedError(
                f"The model imports no default opset, but node {node.name!r} ({node.op_type}) needs one; "
                f"expected an opset_import of {LOWEST_OPSET} to {newest}.",
                hint="Export the model again with an explicit opset version.",
                node=node.name,
            )


def _convert(model: ir.Model, opset: int) -> int:
    """Convert in place and return the opset reached."""
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if size > _PROTOBUF_LIMIT:
        raise _refused(opset, f"its {size} bytes of weights are more than ONNX's converter can take")
    ir.external_data.load_to_model(model)
    proto = ir.to_proto(model)
    reasons = []
    for target in _TARGETS:
        try:
            converted = _run_converter(proto, target)
        except Exception as error:  # the C++ converter raises whatever its adapters raise
            reasons.append(f"to {target}: {str(error).splitlines()[0]}")
            continue
        model.graph = ir.from_proto(converted).graph
        return target
    raise _refused(opset, "; ".join(reasons))


def _run_converter(proto: onnx.ModelProto, target: int) -> onnx.ModelProto:
    from onnx import version_converter

    return version_converter.convert_version(proto, target)


def _refused(opset: int, reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"The model uses opset {opset} and cannot be converted to {LOWEST_OPSET} or higher: {reason}.",
        hint=f"Export the model again with opset {LOWEST_OPSET} or higher.",
        opset=opset,
    )
