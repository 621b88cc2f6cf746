"""Hold a measurement against the thresholds of a gate.

A drop counts in the metric's own unit and is positive when the model is worse. It is counted from the stored baseline
where the gate names one, else from the float model, else from the value of two equal models.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.environment import differences
from ort_quant_plugin.gates.evidence import Base, Evidence, drop_from
from ort_quant_plugin.gates.gate import without_folders
from ort_quant_plugin.gates.measurement import Verdict, is_lost
from ort_quant_plugin.gates.render.values import difference_text, distinct_texts, value_text

if TYPE_CHECKING:
    from ort_quant_plugin.gates.gate import Gate
    from ort_quant_plugin.gates.measurement import Measurement

__all__ = ["CONFIDENCE", "judge"]

CONFIDENCE = 0.95
"""Level of the intervals that are shown."""

_ROUNDING = 1e-9
"""What a threshold forgives, relative to the numbers at hand: 0.85 − 0.84 is 0.010000000000000009."""


def judge(gate: Gate, measurement: Measurement, baseline: Measurement | None = None) -> Verdict:
    """Judge one measurement.

    Args:
        gate: Its thresholds.
        measurement: What was measured.
        baseline: What was measured when the baseline was stored.

    Returns:
        The verdict; a value that is not a number or the worst infinity never passes, and none passes against such a
        base.

    Raises:
        ConfigError: The gate has ``max_drop``, but there is nothing to count a drop from.
    """
    reason = _not_comparable(measurement, baseline)
    if reason is not None:
        return Verdict(passed=False, reasons=[reason])
    base = _find_base(gate, measurement, baseline)
    if gate.max_drop is not None and base is None:
        raise _no_base(gate, measurement)
    verdict = Verdict(passed=True, budget=gate.max_drop)
    if base is not None:
        verdict.base, verdict.base_name = base.value, base.name
        verdict.drop = drop_from(base.value, measurement.value, measurement.higher_is_better)
    if baseline is not None:
        verdict.notes += _changes(measurement, baseline)
    if math.isnan(measurement.value):
        verdict.reasons.append(f"{measurement.metric} is not a number (NaN)")
    else:
        _judge_thresholds(gate, measurement, verdict, Evidence(measurement, base))
        verdict.reasons += _lost(gate, measurement, verdict)
    verdict.passed = not verdict.reasons
    return verdict


def _not_comparable(measurement: Measurement, baseline: Measurement | None) -> str | None:
    """Why the baseline says nothing about this measurement."""
    if baseline is None:
        return None
    if baseline.metric != measurement.metric:
        return (
            f"the baseline is of {baseline.metric}, the gate measures {measurement.metric}: name another baseline, "
            "or update this one"
        )
    theirs, ours = without_folders(baseline.options), without_folders(measurement.options)
    if theirs != ours:
        return (
            f"the baseline was measured with the options {theirs or 'of the default'}, the gate has {ours or 'none'}: "
            "use the same, or update the baseline"
        )
    if baseline.is_lost:
        return f"the value of the baseline is {baseline.value}, and nothing is worse than that: update the baseline"
    there, here = baseline.data.get("sha256"), measurement.data.get("sha256")
    if there != here and there and here:
        return (
            f"the baseline was measured on other data ({baseline.samples} samples, here {measurement.samples}): "
            "measure on the same samples, or update the baseline"
        )
    return None


def _find_base(gate: Gate, measurement: Measurement, baseline: Measurement | None) -> Base | None:
    if baseline is not None:
        digest = measurement.data.get("sha256")
        same_data = digest is not None and digest == baseline.data.get("sha256")
        return Base(baseline.value, "baseline", baseline.value_rows if same_data else None)
    if measurement.reference is None:
        return None
    if measurement.kind == "own":
        return Base(measurement.reference, "float", measurement.reference_rows)
    # A drop from equal models says no more than the value, unless asked for; from an infinite one it says nothing.
    wanted = gate.max_drop is not None and math.isfinite(measurement.reference)
    return Base(measurement.reference, "equal models") if wanted else None


def _no_base(gate: Gate, measurement: Measurement) -> ConfigError:
    if measurement.kind == "own":
        hint = "Give the float model as reference=, name a baseline=, or use min_value= or max_value=."
    else:
        hint = "Name a baseline=, or use min_value= or max_value= instead of max_drop=."
    return ConfigError(
        f"Gate {gate.name!r}: max_drop is {gate.max_drop:g}, but {gate.metric} has nothing to count a drop from.",
        hint=hint,
        gate=gate.name,
    )


def _changes(measurement: Measurement, baseline: Measurement) -> list[str]:
    notes = []
    changed = differences(measurement.environment, baseline.environment) if baseline.environment else []
    if changed:
        notes.append(f"the baseline was measured in another environment: {', '.join(changed)}")
    ours, theirs = (item.models.get("reference", {}).get("sha256") for item in (measurement, baseline))
    if ours and theirs and ours != theirs:
        notes.append("the float model is another file than the baseline's")
    return notes


def _judge_thresholds(gate: Gate, measurement: Measurement, verdict: Verdict, evidence: Evidence) -> None:
    drop = verdict.drop
    if drop is not None:
        verdict.interval, verdict.interval_of = evidence.of_drop(CONFIDENCE), "drop"
        verdict.p_value = evidence.p_value
    else:
        verdict.interval, verdict.interval_of = evidence.of_value(CONFIDENCE), "value"
    if verdict.interval is None:
        verdict.interval_of = ""
    if gate.max_drop is not None and drop is not None and _above(drop, gate.max_drop, _scale(verdict, measurement)):
        _miss_drop(gate, measurement, verdict, evidence)
    if gate.min_value is not None and _above(gate.min_value, measurement.value, gate.min_value):
        _miss_limit(gate, "min_value", gate.min_value, measurement, verdict, evidence)
    if gate.max_value is not None and _above(measurement.value, gate.max_value, gate.max_value):
        _miss_limit(gate, "max_value", gate.max_value, measurement, verdict, evidence)
    missing = evidence.missing or (
        "the value is undefined for some choices of samples" if not verdict.interval else None
    )
    if missing and (gate.significance is not None or measurement.value_rows):
        verdict.notes.append(f"no confidence interval: {missing}")


def _miss_drop(gate: Gate, measurement: Measurement, verdict: Verdict, evidence: Evidence) -> None:
    assert gate.max_drop is not None
    assert verdict.drop is not None
    texts = distinct_texts(difference_text, measurement.unit, verdict.drop, gate.max_drop)
    worse = f"{measurement.metric} is worse than {_base_title(verdict)} by {texts[0]}; allowed {texts[1]}"
    level = _two_sided(gate)
    bounds = None if level is None else evidence.of_drop(level)
    by_chance = bounds is not None and not _above(bounds[0], gate.max_drop, _scale(verdict, measurement))
    _record(gate, measurement, verdict, worse, by_chance=by_chance)


def _miss_limit(
    gate: Gate, key: str, limit: float, measurement: Measurement, verdict: Verdict, evidence: Evidence
) -> None:
    texts = distinct_texts(value_text, measurement.unit, measurement.value, limit)
    beyond = f"{measurement.metric} is {texts[0]}; {key} is {texts[1]}"
    level = _two_sided(gate)
    bounds = None if level is None else evidence.of_value(level)
    by_chance = False
    if bounds is not None:
        missed = _above(limit, bounds[1], limit) if key == "min_value" else _above(bounds[0], limit, limit)
        by_chance = not missed
    _record(gate, measurement, verdict, beyond, by_chance=by_chance)


def _record(gate: Gate, measurement: Measurement, verdict: Verdict, sentence: str, *, by_chance: bool) -> None:
    """Chance does not excuse an infinite value or drop, although draws without the sample that made it would."""
    if by_chance and math.isfinite(measurement.value) and math.isfinite(verdict.drop or 0.0):
        verdict.within_chance = True
        verdict.notes.append(
            f"{sentence}: within chance at significance {gate.significance:g} with {measurement.samples} samples"
        )
    else:
        verdict.reasons.append(sentence)


def _lost(gate: Gate, measurement: Measurement, verdict: Verdict) -> list[str]:
    """Why nothing passes that is as bad as can be, or is held against that."""
    if measurement.is_lost and not verdict.reasons:
        return [f"{measurement.metric} is {value_text(measurement.value, measurement.unit)}, the worst there is"]
    if gate.max_drop is not None and verdict.base is not None and is_lost(verdict.base, measurement.higher_is_better):
        base = value_text(verdict.base, measurement.unit)
        return [f"{measurement.metric} of the {verdict.base_name} model is {base}: nothing is worse than that"]
    return []


def _scale(verdict: Verdict, measurement: Measurement) -> float:
    """The largest of the numbers a drop is made of and held against: its rounding error is relative to that."""
    return max(abs(number) for number in (verdict.base, measurement.value, verdict.budget) if number is not None)


def _base_title(verdict: Verdict) -> str:
    titles = {"float": "the float model", "baseline": "the baseline", "equal models": "that of equal models"}
    return titles[verdict.base_name]


def _two_sided(gate: Gate) -> float | None:
    """Level of the two-sided interval whose ends are the gate's one-sided bounds."""
    return None if gate.significance is None else 1 - 2 * gate.significance


def _above(value: float, limit: float, scale: float) -> bool:
    """Whether ``value`` is above ``limit`` by more than rounding; NaN is above everything."""
    slack = _ROUNDING * abs(scale) if math.isfinite(scale) else 0.0
    return not value <= limit + slack
