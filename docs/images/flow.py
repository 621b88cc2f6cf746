"""Draw docs/images/flow.svg: the flow from a float model to the models of the targets."""

from __future__ import annotations

import sys
from pathlib import Path

FONT = "font-family='Helvetica, Arial, sans-serif'"
INK, LINE = "#1f2933", "#52606d"
FILL = {"model": "#e3f2fd", "step": "#fff8e1", "data": "#e8f5e9", "out": "#f3e5f5"}


def box(x: int, y: int, w: int, h: int, kind: str, title: str, *lines: str) -> str:
    """A rounded box with a bold title and lines below it."""
    parts = [f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='8' fill='{FILL[kind]}' stroke='{LINE}'/>"]
    top = y + h / 2 - 9 * len(lines) + 5
    parts.append(
        f"<text x='{x + w / 2}' y='{top:g}' text-anchor='middle' font-weight='bold' fill='{INK}'>{title}</text>"
    )
    for i, line in enumerate(lines, 1):
        parts.append(
            f"<text x='{x + w / 2}' y='{top + 18 * i:g}' text-anchor='middle' font-size='13' fill='{INK}'>{line}</text>"
        )
    return "\n".join(parts)


def arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    """A line with a head at its end."""
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{LINE}' stroke-width='1.6' marker-end='url(#head)'/>"


def draw() -> str:
    """The picture as SVG text."""
    outs = [
        ("fake_quant", "simulates int8 on any", "ONNX Runtime"),
        ("deploy", "int8 for Ascend (ATC)", "default domain only"),
        ("qdq", "int8 on stock", "ONNX Runtime, CPU"),
    ]
    parts = [
        box(10, 95, 130, 70, "model", "float.onnx", "your model"),
        box(190, 80, 160, 100, "step", "prepare", "fold constants, BN", "quantize weights", "insert observers"),
        box(400, 80, 190, 100, "step", "calibrate", "the model runs in", "ONNX Runtime; our ops", "(IFMR, HFMG) watch"),
        box(425, 10, 140, 44, "data", "a few samples"),
        box(425, 206, 140, 44, "data", "record.txt", "scales and offsets"),
        box(640, 95, 110, 70, "step", "export", "check"),
        *(box(800, 10 + 85 * i, 190, 72, "out", *texts) for i, texts in enumerate(outs)),
        arrow(140, 130, 186, 130),
        arrow(350, 130, 396, 130),
        arrow(495, 54, 495, 76),
        arrow(495, 180, 495, 202),
        arrow(565, 222, 660, 169),
        arrow(590, 130, 636, 130),
        *(arrow(750, 130, 796, 46 + 85 * i) for i in range(3)),
    ]
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1000 264' {FONT} font-size='15'>\n"
        "<defs><marker id='head' markerWidth='9' markerHeight='9' refX='7' refY='4' orient='auto'>"
        f"<path d='M0,0 L8,4 L0,8 z' fill='{LINE}'/></marker></defs>\n"
        "<rect width='1000' height='264' fill='white'/>\n"
    )
    return head + "\n".join(parts) + "\n</svg>\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg")).write_text(draw(), encoding="utf-8")
