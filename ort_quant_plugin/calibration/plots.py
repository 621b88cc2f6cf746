"""Histograms of observed tensors with the ranges drawn in: one PNG a tensor (needs matplotlib)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ort_quant_plugin.calibration.distribution import rebinned
from ort_quant_plugin.errors import UnsupportedError
from ort_quant_plugin.files import FOLDER_MODE, unwritable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ort_quant_plugin.calibration.ranges import RangesReport, TensorRanges
    from ort_quant_plugin.calibration.sketch import Sketch

__all__ = ["plot_ranges"]

_BINS = 256


def plot_ranges(
    report: RangesReport, sketches: Mapping[str, Sketch], folder: str | os.PathLike[str]
) -> dict[str, Path]:
    """Draw the values of every tensor (log scale) and, above them, the range of every method.

    Args:
        report: From :func:`~ort_quant_plugin.calibration.ranges.ranges`.
        sketches: Of the same file.
        folder: Where the PNGs go; made when missing.

    Returns:
        File by tensor: ``<number>_<tensor>.png`` in the order of the report.

    Raises:
        UnsupportedError: matplotlib is not installed.
        OutputError: A file cannot be written.
    """
    figures = _figure_class()
    folder = Path(folder)
    written = {}
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for number, tensor in enumerate(report.tensors):
            if sketches[tensor.tensor].empty:
                continue
            path = folder / f"{number:03d}_{re.sub(r'[^A-Za-z0-9._-]+', '_', tensor.tensor)[:80]}.png"
            temporary = path.with_name(f".{path.name}.tmp")
            _draw(figures, tensor, sketches[tensor.tensor]).savefig(temporary, format="png", dpi=110)
            temporary.replace(path)
            written[tensor.tensor] = path
    except OSError as error:
        raise unwritable(folder, error) from error
    return written


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot: no display, no global state
    except ImportError as error:
        raise UnsupportedError(
            "Drawing histograms needs matplotlib, which is not installed.",
            hint="pip install 'ort-quant-plugin[plot]'.",
        ) from error
    return Figure


def _draw(figure_class: Any, tensor: TensorRanges, sketch: Sketch) -> Any:
    found = [r for r in tensor.ranges if not math.isnan(r.scale)]
    low = min([sketch.minimum, *(r.low for r in found)])
    high = max([sketch.maximum, *(r.high for r in found)])
    margin = 0.02 * ((high - low) or 1.0)
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    figure = figure_class(figsize=(9, 3.2 + 0.22 * len(found)), layout="constrained")
    values, bars = figure.subplots(2, 1, sharex=True, height_ratios=[3, max(1.0, 0.28 * len(found))])
    values.stairs(rebinned(sketch, edges, zeros=False), edges, fill=True, color="#4c78a8")
    values.set_yscale("symlog", linthresh=1)
    values.set_ylim(bottom=0)
    values.set_ylabel("values a bin")
    title = f"{tensor.tensor}  ({', '.join(tensor.layers)})" if tensor.layers else tensor.tensor
    zeros = f", {100 * tensor.zeros:.1f} % exact zeros (not drawn)" if tensor.zeros else ""
    values.set_title(f"{_short(title)}\n{tensor.count:,} values in [{tensor.minimum:.4g}, {tensor.maximum:.4g}]{zeros}")
    for row, chosen in enumerate(found):
        bars.plot([chosen.low, chosen.high], [row, row], marker="|", markersize=9, linewidth=2.5, color="#e45756")
    bars.set_yticks(range(len(found)), [f"{r.method}  {_decibel(r.sqnr_db)}" for r in found], fontsize=8)
    bars.set_ylim(len(found) - 0.4, -0.6)
    bars.set_xlabel("value; range of each method and its expected SQNR")
    return figure


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _decibel(value: float) -> str:
    return "exact" if math.isinf(value) and value > 0 else f"{value:.1f} dB"
