"""Calibration methods: how the range of an activation is chosen. One file a method."""

from __future__ import annotations

from ort_quant_plugin.calibration.methods.aciq_gauss import AciqGaussMethod
from ort_quant_plugin.calibration.methods.aciq_laplace import AciqLaplaceMethod
from ort_quant_plugin.calibration.methods.base import CalibrationMethod, Grid, ObserverSpec, RecordingMethod, Storage
from ort_quant_plugin.calibration.methods.entropy import EntropyMethod
from ort_quant_plugin.calibration.methods.hfmg import HfmgMethod
from ort_quant_plugin.calibration.methods.histogram import HistogramMethod
from ort_quant_plugin.calibration.methods.ifmr import IfmrMethod
from ort_quant_plugin.calibration.methods.kld import KldMethod
from ort_quant_plugin.calibration.methods.minmax import MinmaxMethod
from ort_quant_plugin.calibration.methods.mse import MseMethod
from ort_quant_plugin.calibration.methods.percentile import PercentileMethod
from ort_quant_plugin.calibration.methods.tf_enhanced import TfEnhancedMethod

__all__ = [
    "BUILTIN_METHODS",
    "CalibrationMethod",
    "Grid",
    "ObserverSpec",
    "RecordingMethod",
    "Storage",
]

BUILTIN_METHODS: tuple[CalibrationMethod, ...] = (
    IfmrMethod(),
    HfmgMethod(),
    MinmaxMethod(),
    PercentileMethod(),
    KldMethod(),
    MseMethod(),
    AciqGaussMethod(),
    AciqLaplaceMethod(),
    HistogramMethod(),
    TfEnhancedMethod(),
    EntropyMethod(),
)
