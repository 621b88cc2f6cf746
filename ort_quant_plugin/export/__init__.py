"""Exporters: a calibrated model and its record become the models of the targets. One file a target."""

from __future__ import annotations

from ort_quant_plugin.export.ascend import AscendExporter
from ort_quant_plugin.export.base import Exported, Exporter, ExportOptions
from ort_quant_plugin.export.fake_quant import FakeQuantExporter
from ort_quant_plugin.export.ort_cpu import OrtCpuExporter
from ort_quant_plugin.export.plan import LayerPlan, Plan, build_plan
from ort_quant_plugin.export.qdq import QdqExporter
from ort_quant_plugin.export.write import output_paths, write_targets

__all__ = [
    "BUILTIN_EXPORTERS",
    "AscendExporter",
    "ExportOptions",
    "Exported",
    "Exporter",
    "FakeQuantExporter",
    "LayerPlan",
    "OrtCpuExporter",
    "Plan",
    "QdqExporter",
    "build_plan",
    "output_paths",
    "write_targets",
]

BUILTIN_EXPORTERS: tuple[Exporter, ...] = (
    FakeQuantExporter(),
    AscendExporter(),
    OrtCpuExporter(),
    QdqExporter(),
)
