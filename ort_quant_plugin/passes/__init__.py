"""Graph preparation: small passes on onnx_ir, and the pipeline that orders and checks them."""

from __future__ import annotations

from ort_quant_plugin.passes.base import Change, Declined, GraphPass, PassContext, PassReport, Phase
from ort_quant_plugin.passes.naming import NameNodes
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
    "name_nodes",
    "prepare",
]

name_nodes: GraphPass = NameNodes()
"""The naming pass on its own: what AMCT's ``updated_model`` is made with."""
