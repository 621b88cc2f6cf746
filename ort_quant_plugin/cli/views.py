"""Tables of reports, shared by verbs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ort_quant_plugin.cli.output import file_size, stylize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import RenderableType
    from rich.text import Text

    from ort_quant_plugin.cli.output import Output
    from ort_quant_plugin.metrics import ErrorStats
    from ort_quant_plugin.passes import PassReport
    from ort_quant_plugin.report import LayerReport

__all__ = [
    "count",
    "decibel",
    "error_cells",
    "file_table",
    "float_layers",
    "layer_summary",
    "layer_table",
    "pass_lines",
    "percent",
]

_SHOWN_NAMES = 3


def count(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}es" if noun.endswith("ch") else f"{number} {noun}s"


def percent(share: float | None) -> str:
    """``97.50 %``; a dash for ``None``."""
    return "-" if share is None else f"{100 * share:.2f} %"


def decibel(value: float) -> str:
    """``43.2``; ``exact`` for +∞, ``-inf`` for −∞."""
    if math.isinf(value):
        return "exact" if value > 0 else "-inf"
    return f"{value:.1f}"


def error_cells(error: ErrorStats) -> list[str]:
    """Cosine, SQNR and maximum error of a tensor."""
    return [f"{error.cosine:.6f}", decibel(error.sqnr_db), f"{error.max_abs_error:.4g}"]


def layer_summary(layers: Sequence[LayerReport]) -> str:
    """``24 layers quantized, 2 stay float``; nodes of which tensors are quantized are counted apart."""
    quantized = sum(layer.status == "quantized" for layer in layers)
    tensors = sum(layer.status == "tensor" for layer in layers)
    stays = sum(layer.status == "float" for layer in layers)
    extra = f", input tensors of {tensors} more" if tensors else ""
    return f"{count(quantized, 'layer')} quantized{extra}, {stays} {'stays' if stays == 1 else 'stay'} float"


def layer_table(output: Output, layers: Sequence[LayerReport]) -> RenderableType:
    """One line a layer: type, quantized or why not, weight granularity, scale and offset where any is known."""
    columns: list[str | tuple[str, str]] = ["Layer", "Type", "Quantized", "Weights"]
    calibrated = any(layer.scale_d is not None for layer in layers)
    detailed = calibrated and output.settings.verbose > 0
    if calibrated:
        columns += [("Scale", "right"), ("Offset", "right")]
    if detailed:
        columns.append(("Weight scales", "right"))
    rows = []
    for layer in layers:
        row: list[str | Text] = [layer.name, layer.op_type, _verdict(layer), _weights(layer)]
        if calibrated:
            row += ["-", "-"] if layer.scale_d is None else [f"{layer.scale_d:.6g}", str(layer.offset_d)]
        if detailed:
            row.append(_range(layer.scale_w))
        rows.append(row)
    return output.table(columns, rows)


def _verdict(layer: LayerReport) -> Text:
    if layer.status == "float":
        return stylize("no: ", "yellow").append(layer.reason or "")
    text = stylize("yes" if layer.status == "quantized" else "input tensor", "green")
    for note in layer.notes:
        text.append(f"; {note}")
    return text


def _weights(layer: LayerReport) -> str:
    if layer.weight_granularity is None:
        return "-"
    narrow = f" int{layer.weight_bits}" if layer.weight_bits not in {None, 8} else ""
    return f"{layer.weight_granularity}{narrow}"


def _range(scales: tuple[float, float] | None) -> str:
    if scales is None:
        return "-"
    low, high = scales
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"


def float_layers(output: Output, layers: Iterable[LayerReport]) -> Iterator[RenderableType]:
    """What stays float and why, one line for each type and reason; nothing if there is none."""
    groups: dict[tuple[str, str], list[str]] = {}
    for layer in layers:
        if layer.status == "float":
            groups.setdefault((layer.op_type, layer.reason or ""), []).append(layer.name)
        for note in layer.notes:
            groups.setdefault((layer.op_type, note), []).append(layer.name)
    if groups:
        yield ""
        rows = [[str(len(names)), op, reason, _names(names)] for (op, reason), names in groups.items()]
        yield output.table([("Float", "right"), "Type", "Why", "Layers"], rows)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown}, ... (-v lists all)"


def file_table(output: Output, files: Mapping[str, Path], *, sizes: bool = True) -> RenderableType:
    """Files written, one a line."""
    rows = [[kind, file_size(path) if sizes else "", str(path)] for kind, path in files.items()]
    return output.table(["Written", ("Size", "right"), "File"], rows)


def pass_lines(output: Output, passes: Iterable[PassReport]) -> Iterator[RenderableType]:
    """What graph preparation did and declined."""
    rows: list[list[str | Text]] = []
    for report in passes:
        rows += [[report.name, stylize("did", "green"), change.where, change.what] for change in report.changes]
        rows += [[report.name, stylize("declined", "yellow"), item.where, item.reason] for item in report.declined]
    if rows:
        yield ""
        yield output.table(["Pass", "", "Where", "What"], rows)
