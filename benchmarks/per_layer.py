"""Layer by layer: our model against ONNX Runtime's own int8 and against what the processor can do at most."""

from __future__ import annotations

import math
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness import ChildError
from tables import Table, number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

__all__ = ["compare", "peak", "table_of"]

_PEAK = re.compile(r"(?:peak|registers)\b\W+([\d.]+|inf)\s*GMAC/s")
_HEADINGS = ("layer", "op", "output", "MMAC", "µs", "GMAC/s", "% of peak", "ONNX Runtime µs", "ours ÷ ORT", "")


def peak(arguments: argparse.Namespace) -> float | None:
    """int8 multiplications (GMAC/s) that one core can do: given, measured now by ``bench_qconv``, or not known.

    Raises:
        ChildError: The program fails or does not say.
    """
    if arguments.peak is not None or arguments.bench is None:
        known: float | None = arguments.peak
        return known
    command = [str(arguments.bench.resolve()), "--peak"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=arguments.timeout)
    found = [float(value) for value in _PEAK.findall(done.stdout)]
    if found == [math.inf]:  # a processor without the instruction
        return None
    if done.returncode or not found:
        raise ChildError(f"{arguments.bench.name} --peak: no line 'peak … GMAC/s' (exit status {done.returncode})")
    return max(found)


def compare(
    ours: Sequence[Sequence[Mapping[str, Any]]],
    base: Sequence[Sequence[Mapping[str, Any]]],
    gmacs_peak: float | None,
    batch: int,
) -> dict[str, Any]:
    """One document of several profiles of each model; the least time of a node counts.

    Args:
        ours: The nodes of ``timing.layers`` of our model, one list a process.
        base: Those of ONNX Runtime's QDQ model.
        gmacs_peak: GMAC/s of one core, ``None`` if not known.
        batch: Samples a run.
    """
    mine, other = _least(ours), _least(base)
    others = {node["layers"][0]: node for node in other if node["layers"]}
    layers = [_layer(node, _taken(others, node["layers"]), gmacs_peak) for node in mine if node["layers"]]
    layers += [_layer(None, [node], gmacs_peak) for node in others.values()]
    return {
        "batch": batch,
        "peak_gmacs": gmacs_peak,
        "layers": layers,
        "others": {"ours": _others(mine), "ort": _others(other)},
        "total_us": {"ours": sum(n["least_us"] for n in mine), "ort": sum(n["least_us"] for n in other)},
    }


def _least(profiles: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The nodes of one profile, each with its least time in all of them."""
    return [
        {**node, "least_us": min(profile[i]["least_us"] for profile in profiles)}
        for i, node in enumerate(profiles[0] if profiles else [])
    ]


def _taken(nodes: dict[str, Mapping[str, Any]], layers: Sequence[str]) -> list[Mapping[str, Any]]:
    """ONNX Runtime's nodes for these layers, out of those not taken yet; none unless all are there."""
    if not all(name in nodes for name in layers):
        return []
    return [nodes.pop(name) for name in layers]


def _layer(
    ours: Mapping[str, Any] | None, base: Sequence[Mapping[str, Any]], gmacs_peak: float | None
) -> dict[str, Any]:
    node = ours or base[0]
    # A time below the profiler's microsecond is that microsecond.
    us = None if ours is None else max(ours["least_us"], 1)
    ort_us = sum(max(other["least_us"], 1) for other in base) or None
    gmacs = None if us is None else node["macs"] / us / 1e3
    return {
        "name": " + ".join(node["layers"]),
        "layers": node["layers"],
        "op": node["op"] if ours is not None else None,
        "ort_op": " + ".join(dict.fromkeys(other["op"] for other in base)) or None,
        "output": node["output"],
        "macs": node["macs"],
        "us": us,
        "gmacs": gmacs,
        "share_of_peak": None if gmacs is None or gmacs_peak is None else gmacs / gmacs_peak,
        "ort_us": ort_us,
        "ratio": None if us is None or ort_us is None else us / ort_us,
    }


def _others(nodes: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """What is no layer: number and time (µs) by operator type, the most expensive first."""
    counts, times = Counter[str](), Counter[str]()
    for node in nodes:
        if not node["layers"]:
            counts[node["op"]] += 1
            times[node["op"]] += node["least_us"]
    return {op: [counts[op], spent] for op, spent in times.most_common()}


def table_of(label: str, found: Mapping[str, Any]) -> Table:
    """The layers of one net as a table."""
    layers = found["layers"]
    table = Table(
        _HEADINGS, frozenset({"layer", "op", "output", ""}), title=f"Layers of {label}, batch {found['batch']}"
    )
    for layer in layers:
        share = layer["share_of_peak"]
        table.rows.append(
            [
                layer["name"],
                layer["op"] or "–",
                "×".join(map(str, layer["output"])),
                number(layer["macs"] / 1e6, 2),
                number(layer["us"], 0),
                number(layer["gmacs"], 0),
                number(None if share is None else 100 * share, 0),
                number(layer["ort_us"], 0),
                number(layer["ratio"], 2),
                "slower" if (layer["ratio"] or 0) > 1 else "",
            ]
        )
    slower = [layer["name"] for layer in layers if (layer["ratio"] or 0) > 1]
    if any(layer["ratio"] is not None for layer in layers):
        table.remarks.append(f"Slower than ONNX Runtime's: {', '.join(slower) or 'none'}.")
    alone = [layer["name"] for layer in layers if layer["us"] is None or layer["ort_us"] is None]
    if 0 < len(alone) < len(layers):
        table.remarks.append(f"In one of the two models only: {', '.join(alone)}.")
    for which, name in (("ours", "Ours"), ("ort", "ONNX Runtime")):
        parts = [f"{count} {op} {spent:.0f} µs" for op, (count, spent) in found["others"][which].items()]
        total = found["total_us"][which]
        table.remarks.append(f"{name}, all nodes: {total:.0f} µs; besides the layers: {', '.join(parts) or 'nothing'}.")
    if found["peak_gmacs"] is not None:
        table.remarks.append(f"Peak of one core: {found['peak_gmacs']:.0f} GMAC/s.")
    return table
