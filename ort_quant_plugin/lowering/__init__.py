"""Lowering: a deploy graph becomes int8 regions of our own operators, for the CPU."""

from __future__ import annotations

from ort_quant_plugin.lowering.lower import lower
from ort_quant_plugin.lowering.report import LoweredLayer, LoweringReport

__all__ = ["LoweredLayer", "LoweringReport", "lower"]
