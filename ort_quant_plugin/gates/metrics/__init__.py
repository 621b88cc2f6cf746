"""What gates measure: the metrics, and the base classes of plugins' own."""

from __future__ import annotations

from ort_quant_plugin.gates.metrics.base import Batch, GateMetric, Measured, Parameter, SampleMetric
from ort_quant_plugin.gates.metrics.classification import Agreement, TopK
from ort_quant_plugin.gates.metrics.cost import LatencyRatio, SizeRatio
from ort_quant_plugin.gates.metrics.detection import BoxMap
from ort_quant_plugin.gates.metrics.distance import Cosine, MaxError, MeanAbsoluteError, MeanSquaredError, Sqnr
from ort_quant_plugin.gates.metrics.layers import LayerSqnr
from ort_quant_plugin.gates.metrics.ranking import Spearman
from ort_quant_plugin.gates.metrics.registry import gate_metrics, metric_named
from ort_quant_plugin.gates.metrics.reproducibility import BitEqual
from ort_quant_plugin.gates.metrics.text import CharAccuracy, TextAccuracy, WordAccuracy

__all__ = [
    "BUILTIN_GATE_METRICS",
    "Batch",
    "GateMetric",
    "Measured",
    "Parameter",
    "SampleMetric",
    "gate_metrics",
    "metric_named",
]

BUILTIN_GATE_METRICS: tuple[GateMetric, ...] = (
    TopK("top1", 1),
    TopK("top5", 5),
    TopK("top_k", None),
    Agreement(),
    Cosine(),
    Sqnr(),
    MeanSquaredError(),
    MeanAbsoluteError(),
    MaxError(),
    Spearman(),
    LayerSqnr(),
    BoxMap("box_map"),
    BoxMap("box_map50"),
    CharAccuracy(),
    WordAccuracy(),
    TextAccuracy(),
    SizeRatio(),
    LatencyRatio(),
    BitEqual(),
)
"""What the package ships, in the order of listings."""
