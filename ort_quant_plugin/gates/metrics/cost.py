"""What quantization is for: smaller files, shorter runs."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.comparison import numeric_outputs, open_model, run
from ort_quant_plugin.errors import DataError
from ort_quant_plugin.gates.metrics.base import GateMetric, Measured, Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ort_quant_plugin.gates.evaluation import Evaluation
    from ort_quant_plugin.gates.metrics.base import Rows
    from ort_quant_plugin.gates.model_files import ModelFacts

__all__ = ["LatencyRatio", "SizeRatio"]

_RUNS = 5  # of each model in a round; their median is the round's time


class SizeRatio(GateMetric):
    """Bytes of the quantized model's files over those of the float model's, external data included."""

    name = "size_ratio"
    summary = "size of the model's files relative to the float model's"
    unit = "ratio"
    higher_is_better = False
    equal_value = 1.0
    needs_data = False
    blames_layers = False

    def measure(self, evaluation: Evaluation) -> Measured:
        """Divide the sizes."""
        assert evaluation.reference is not None
        size, reference = evaluation.model.bytes, evaluation.reference.bytes
        return Measured(size / reference, 0, details={"bytes": size, "reference_bytes": reference})


class LatencyRatio(GateMetric):
    """Time of one run of the quantized model over the float model's, on the first batch of the data.

    The models take turns, so that a machine that gets slower slows both. A round is the median of five runs of each;
    the value is the geometric mean of the rounds' ratios. Rounds are this metric's samples.
    """

    name = "latency_ratio"
    summary = "time of a run relative to the float model's, same threads, taking turns"
    unit = "ratio"
    higher_is_better = False
    equal_value = 1.0
    blames_layers = False
    options = (
        Parameter("rounds", "int", 10, "at least 2", "Rounds of five runs of each model.", lambda value: value >= 2),
        Parameter("warmup", "int", 3, "at least 0", "Runs of each model before the first.", lambda value: value >= 0),
    )

    def measure(self, evaluation: Evaluation) -> Measured:
        """Time both models."""
        assert evaluation.reference is not None
        runs = [_runner(model, evaluation) for model in (evaluation.model, evaluation.reference)]
        for _ in range(evaluation.options["warmup"]):
            for once in runs:
                once()
        times = np.array([_round(runs) for _ in range(evaluation.options["rounds"])])
        rows = np.log(times[:, :1] / times[:, 1:])
        milliseconds, reference = (1000 * np.median(times, axis=0)).tolist()
        return Measured(
            float(np.exp(rows.mean())),
            len(rows),
            value_rows=rows,
            details={"milliseconds": milliseconds, "reference_milliseconds": reference},
        )

    def from_mean_rows(self, mean: Rows, options: Mapping[str, Any]) -> Rows:
        """Rows are logarithms of ratios."""
        del options
        return np.exp(mean[..., 0])


def _round(runs: list[Callable[[], float]]) -> list[float]:
    taken = [[once() for once in runs] for _ in range(_RUNS)]
    return [statistics.median(times) for times in zip(*taken, strict=True)]


def _runner(model: ModelFacts, evaluation: Evaluation) -> Callable[[], float]:
    gate = evaluation.gate
    session = open_model(model.path, gate.op_libraries, threads=gate.threads)
    names, _ = numeric_outputs(session)
    feed = next(iter(evaluation.samples(1)), None)
    if feed is None:
        raise DataError("The evaluation saw no samples.", hint="Give data that holds at least one sample.")

    def once() -> float:
        started = time.perf_counter()
        run(session, names, feed, model.path)
        return time.perf_counter() - started

    return once
