"""The worst layer as a metric: a layer can be lost long before the output shows it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ort_quant_plugin.comparison_layers import compare_layers, verified_model_with_layers
from ort_quant_plugin.errors import DataError
from ort_quant_plugin.gates.metrics.base import GateMetric, Measured

if TYPE_CHECKING:
    from ort_quant_plugin.comparison_layers import LayerComparison
    from ort_quant_plugin.gates.evaluation import Evaluation

__all__ = ["LayerSqnr"]


class LayerSqnr(GateMetric):
    """The lowest signal to quantization noise ratio among the outputs of all quantized layers.

    −∞ when a layer gives a NaN, in the float model too or not.
    """

    name = "layer_sqnr"
    summary = "lowest SQNR of a quantized layer's output, dB"
    unit = "dB"

    def measure(self, evaluation: Evaluation) -> Measured:
        """Compare all layers, as ``ort-quant compare --layers`` does."""
        assert evaluation.reference is not None
        path = Path(evaluation.model.path)
        gate, samples = evaluation.gate, evaluation.samples()
        measured = verified_model_with_layers(path, samples, op_libraries=gate.op_libraries, threads=gate.threads)
        layers, unmatched = compare_layers(evaluation.reference.path, measured, samples, op_libraries=gate.op_libraries)
        if not layers:
            raise DataError(
                f"{str(path)!r} has no quantized layer that can be told apart.",
                hint="Give the fake_quant, deploy or QDQ model, or keep the fake_quant model beside the ort model.",
                path=str(path),
                unmatched=unmatched,
            )
        worst = min(layers, key=_sqnr_db)  # the first of equals
        details: dict[str, Any] = {"worst_layer": worst.name, "layers": len(layers)}
        details |= {"measured_in": measured.name} if measured != path else {}
        details |= {"not_in_the_float_model": unmatched} if unmatched else {}
        return Measured(_sqnr_db(worst), samples.size, details=details)


def _sqnr_db(layer: LayerComparison) -> float:
    return -math.inf if layer.error.both_nan else layer.error.sqnr_db
