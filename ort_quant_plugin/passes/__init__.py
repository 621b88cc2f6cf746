"""Graph preparation: small passes on onnx_ir, and the pipeline that orders and checks them."""

from __future__ import annotations

from ort_quant_plugin.passes.base import Change, Declined, GraphPass, PassContext, PassReport, Phase
from ort_quant_plugin.passes.pipeline import BUILTIN_PASSES, Pipeline, default_pipeline, prepare

__all__ = [
    "BUILTIN_PASSES",
    "Change",
    "Declined",
    "GraphPass",
    "PassContext",
    "PassReport",
    "Phase",
    "Pipeline",
    "default_pipeline",
    "prepare",
]
