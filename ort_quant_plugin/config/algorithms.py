"""The algorithms a configuration may choose, with their parameters: one table for reading, checking and documenting."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.config.parameters import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ACTIVATION_ALGORITHMS", "WEIGHT_ALGORITHMS", "AlgorithmSpec", "Parameter"]

_RELATIVE_SLACK = 1e-9
_MOST_CANDIDATES = 100_000  # the operator refuses more


@dataclass(frozen=True)
class AlgorithmSpec:
    """An algorithm that chooses a range (activations) or integers (weights).

    Attributes:
        name: Value of ``act_algo`` or ``wts_algo``.
        doc: One sentence for the reference pages.
        parameters: Its parameters, in the order files are written.
        check: Looks at all parameters together; returns what is wrong or ``None``.
        refused: Why it cannot be chosen although AMCT knows it; ``None`` = it can.
    """

    name: str
    doc: str
    parameters: tuple[Parameter, ...] = ()
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    refused: str | None = None

    def defaults(self) -> Mapping[str, Any]:
        """All parameters with their default values."""
        return MappingProxyType({p.name: p.default for p in self.parameters})


def _percentile(value: float) -> bool:
    return 0.5 < value <= 1.0


def _step_fits(parameters: Mapping[str, Any]) -> str | None:
    start, end = parameters["search_range"]
    step = parameters["search_step"]
    # 1.2 - 1.0 is a little less than 0.2 in binary.
    if step > (end - start) * (1 + _RELATIVE_SLACK):
        return f"search_step = {step} is larger than the search_range [{start}, {end}]"
    # The operator counts in float32.
    with np.errstate(all="ignore"):
        candidates = (np.float32(end) - np.float32(start)) / np.float32(step)
    if not candidates <= _MOST_CANDIDATES:
        return (
            f"search_step = {step} asks for {candidates:.0f} candidates in the search_range [{start}, {end}]; "
            f"expected at most {_MOST_CANDIDATES}"
        )
    return None


_IFMR = AlgorithmSpec(
    "ifmr",
    "Search the clip value with the smallest squared quantization error around a percentile of the data.",
    (
        Parameter(
            "max_percentile",
            "float",
            0.999999,
            "in (0.5, 1]",
            "Position of the maximum in the sorted data.",
            _percentile,
        ),
        Parameter(
            "min_percentile",
            "float",
            0.999999,
            "in (0.5, 1]",
            "Position of the minimum in the sorted data.",
            _percentile,
        ),
        Parameter(
            "search_range",
            "range",
            (0.7, 1.3),
            "0 < start < end",
            "Smallest and largest factor on the clip value.",
            lambda v: 0 < v[0] < v[1],
        ),
        Parameter(
            "search_step",
            "float",
            0.01,
            f"in (0, end - start], at most {_MOST_CANDIDATES} steps",
            "Step between the factors tried.",
            lambda v: v > 0,
        ),
    ),
    check=_step_fits,
)

_HFMG = AlgorithmSpec(
    "hfmg",
    "Search the interval with the smallest squared quantization error on a histogram; needs little memory.",
    (
        Parameter(
            "num_of_bins",
            "int",
            4096,
            "1024, 2048, 4096 or 8192",
            "Bins of the histogram.",
            lambda v: v in (1024, 2048, 4096, 8192),
        ),
    ),
)

_ARQ = AlgorithmSpec("arq_quantize", "Uniform integers, symmetric, one scale per tensor or per output channel.")

_NUQ = AlgorithmSpec(
    "nuq_quantize",
    "Non-uniform weights: int8 values restricted to a few cluster centres.",
    (
        Parameter("num_steps", "int", 32, "16 or 32", "Number of cluster centres.", lambda v: v in (16, 32)),
        Parameter("num_of_iteration", "int", 1, "0 to 5", "Refinements of the clustering.", lambda v: 0 <= v <= 5),
    ),
    refused="non-uniform weights are deprecated by AMCT and bring no benefit on any current device",
)

_ADA = AlgorithmSpec(
    "ada_quantize", "Learned rounding.", refused="AMCT offers it for PyTorch only, it has no ONNX form"
)

ACTIVATION_ALGORITHMS: dict[str, AlgorithmSpec] = {spec.name: spec for spec in (_IFMR, _HFMG)}
"""Activation algorithms of AMCT; plugins hand further ones to the readers."""

WEIGHT_ALGORITHMS: dict[str, AlgorithmSpec] = {spec.name: spec for spec in (_ARQ, _NUQ, _ADA)}
"""Weight algorithms AMCT knows, including those that are refused with a reason."""
