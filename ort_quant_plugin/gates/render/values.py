"""How numbers of gates are written, in one home.

Shares are percent and their differences percentage points (pp), so that "1 %" never means two things.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NOTHING", "difference_text", "distinct_texts", "interval_text", "p_value_text", "value_text"]

NOTHING = "–"
"""Stands where there is no number."""

_MOST_DIGITS = 12


def value_text(value: float | None, unit: str, digits: int = 2) -> str:
    """Write a metric's value: ``71.20 %``, ``31.42 dB``, ``0.27×``, ``0.99871``.

    Args:
        value: In the metric's unit; shares in [0, 1].
        unit: ``"share"``, ``"dB"``, ``"ratio"`` or ``""``.
        digits: Decimals; numbers without a unit have four more significant digits than that.
    """
    return _text(value, unit, digits, share="%")


def difference_text(value: float | None, unit: str, digits: int = 2) -> str:
    """Write a difference of two values: ``0.40 pp``, ``3.10 dB``, ``0.05×``; see :func:`value_text`."""
    return _text(value, unit, digits, share="pp")


def interval_text(interval: tuple[float, float], unit: str, *, of_drop: bool) -> str:
    """Write an interval: ``0.10 to 2.30 pp``."""
    write = difference_text if of_drop else value_text
    low, high = (write(end, unit) for end in interval)
    shared = low[len(low.rstrip(" %pdB×")) :]
    return f"{low.removesuffix(shared) if shared and high.endswith(shared) else low} to {high}"


def distinct_texts(write: Callable[[float, str, int], str], unit: str, one: float, other: float) -> tuple[str, str]:
    """Write two different values with as many digits as it takes to tell them apart."""
    for digits in range(2, _MOST_DIGITS):
        texts = write(one, unit, digits), write(other, unit, digits)
        if texts[0] != texts[1]:
            break
    return texts


def p_value_text(value: float) -> str:
    """Write a p-value: ``0.031``, ``2.1e-07``."""
    return f"{value:.2g}"


def _text(value: float | None, unit: str, digits: int, *, share: str) -> str:
    if value is None:
        return NOTHING
    signs = {"share": f" {share}", "dB": " dB", "ratio": "×"}
    if not math.isfinite(value):
        name = "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
        return f"{name} dB" if unit == "dB" else name
    if unit not in signs:
        return f"{value:.{digits + 4}g}"
    return f"{_fixed(100 * value if unit == 'share' else value, digits)}{signs[unit]}"


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text
