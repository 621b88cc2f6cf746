"""The same model elsewhere: are the bits the same?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.comparison import numeric_outputs, open_model
from ort_quant_plugin.errors import DataError
from ort_quant_plugin.gates.metrics.base import GateMetric, Measured, Parameter
from ort_quant_plugin.gates.replay import LEVELS
from ort_quant_plugin.gates.reproduce import Host, Replayer, first_difference, load
from ort_quant_plugin.metrics import same_bits
from ort_quant_plugin.ops.instruction_sets import instruction_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ort_quant_plugin.gates.dataset import SampleRows
    from ort_quant_plugin.gates.evaluation import Evaluation
    from ort_quant_plugin.gates.metrics.base import Array, Rows

__all__ = ["BitEqual"]

_SHOWN = 5


class BitEqual(GateMetric):
    """Share of samples whose outputs are the same bits when the model runs otherwise.

    Here: this Python and its ONNX Runtime, the instruction set it chooses, the gate's threads. There: what the options
    change of that. Where samples differ, all results inside the model are compared on the first of them.
    """

    name = "bit_equal"
    summary = "share of samples with the same output bits under another instruction set, ONNX Runtime or thread count"
    unit = "share"
    binary = True
    equal_value = 1.0
    needs_reference = False
    blames_layers = False
    options = (
        Parameter("isa", "str", None, "", "Instruction set of our kernels there; `ort-quant ops` lists them."),
        Parameter("python", "str", None, "", "Python there, with numpy and another onnxruntime."),
        Parameter("other_threads", "int", None, "at least 1", "Intra-op threads there.", lambda value: value >= 1),
        Parameter(
            "level",
            "str",
            None,
            f"one of {', '.join(LEVELS)}",
            "Graph optimization level there.",
            LEVELS.__contains__,
        ),
    )

    def measure(self, evaluation: Evaluation) -> Measured:
        """Run the model here and there, and compare."""
        here = Host(threads=evaluation.gate.threads)
        there = here.changed(evaluation.options)
        model = Path(evaluation.model.path).absolute()
        names, _ = numeric_outputs(open_model(model, evaluation.gate.op_libraries))
        with tempfile.TemporaryDirectory(prefix="ort-quant-") as folder:
            replayer = Replayer(Path(folder), evaluation.gate.op_libraries)
            batches = []
            for rows, feed in evaluation.batches_fed():
                replayer.store(feed)
                batches.append(rows)
            if not batches:
                raise DataError("The evaluation saw no samples.", hint="Give data that holds at least one sample.")
            (expected, facts_here), (found, facts_there) = (replayer.run(host, model, names) for host in (here, there))
            isa = instruction_sets()[-1]
            details: dict[str, Any] = {
                "here": here.describe(facts_here, isa),
                "there": there.describe(facts_there, isa),
            }
            equal = [
                _equal_rows(load(one, names), load(other, names), rows)
                for one, other, rows in zip(expected, found, batches, strict=True)
            ]
            first = next((index for index, hits in enumerate(equal) if not hits.all()), None)
            if first is not None:
                details["different_samples"] = _names(batches, equal)
                details |= first_difference(replayer, model, (here, there), first, Path(folder))
        value_rows = np.concatenate(equal)
        return Measured(float(value_rows.mean()), len(value_rows), value_rows=value_rows, details=details)


def _equal_rows(expected: Mapping[str, Array], found: Mapping[str, Array], rows: SampleRows) -> Rows:
    size = rows.count(expected)
    if any(one.shape != found[name].shape for name, one in expected.items()):
        return np.zeros((size, 1))
    return np.array([[float(_same_sample(expected, found, index, size))] for index in range(size)])


def _same_sample(expected: Mapping[str, Array], found: Mapping[str, Array], index: int, size: int) -> bool:
    for name, one in expected.items():
        rows = slice(index, index + 1) if one.ndim and one.shape[0] >= size > 1 else slice(None)
        if not same_bits(np.atleast_1d(one)[rows], np.atleast_1d(found[name])[rows]):
            return False
    return True


def _names(batches: list[SampleRows], equal: list[Rows]) -> list[str]:
    """The first samples that differ."""
    different = [
        rows.names[index]
        for rows, hits in zip(batches, equal, strict=True)
        for index in np.flatnonzero(hits[:, 0] == 0).tolist()
    ]
    return different[:_SHOWN] + ([f"and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else [])
