"""Calibration methods: how the range of an activation is chosen. One file a method."""

from __future__ import annotations

from ort_quant_plugin.calibration.methods.base import CalibrationMethod, ObserverSpec
from ort_quant_plugin.calibration.methods.hfmg import HfmgMethod
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod

__all__ = ["BUILTIN_METHODS", "CalibrationMethod", "HfmgMethod", "IfmrMethod", "ObserverSpec"]

BUILTIN_METHODS: tuple[CalibrationMethod, ...] = (IfmrMethod(), HfmgMethod())
