"""The int8 model for ONNX Runtime on CPUs: the deploy model, lowered to our fused operators.

It computes the same bits as the fake_quant model. ``docs/explanation/lowering.md`` tells how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ort_quant_plugin.export.ascend import AscendExporter
from ort_quant_plugin.export.base import Exported, ExportOptions

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from ort_quant_plugin.export.plan import Plan

__all__ = ["OrtCpuExporter"]


class OrtCpuExporter:
    """Writes ``<prefix>_ort_model.onnx``."""

    name = "ort"
    target = "ort"
    summary = "int8 model for ONNX Runtime on CPUs: fused operators, the bits of the fake_quant model"
    file_suffix = "ort_model.onnx"

    def export(self, model: ir.Model, plan: Plan, options: ExportOptions) -> Exported:
        """See :class:`~ort_quant_plugin.export.base.Exporter`."""
        from ort_quant_plugin.lowering import lower

        provenance = dict(model.metadata_props)  # the deploy model has none
        deploy = AscendExporter().export(model, plan, options)
        report = lower(deploy.model, modes={name: numbers.precision_mode for name, numbers in plan.layers.items()})
        deploy.model.metadata_props.update(provenance)
        return Exported(deploy.model, "_ort.external", [report.summary() + ".", *report.notes], report.stayed_float)

    def verify(self, path: Path, exported: Exported, plan: Plan, options: ExportOptions) -> None:
        """Load the file once: every int8 operator checks its numbers and packs its weights then.

        Raises:
            ModelError: ONNX Runtime refuses it.
        """
        from ort_quant_plugin.ops.library import open_session

        open_session(path, options.op_libraries)
