"""Thresholds, what drops are counted from, statistics, and every way a baseline can be unfit."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from ort_quant_plugin.errors import ConfigError
from ort_quant_plugin.gates.gate import Gate
from ort_quant_plugin.gates.judge import judge
from ort_quant_plugin.gates.measurement import Measurement
from ort_quant_plugin.gates.statistics import mcnemar, paired_drop_interval, wilson

ELSEWHERE = {"isa": "avx2", "onnxruntime": "1.17.3"}


def gate(metric="top1", **thresholds):
    return Gate.from_mapping({"name": "g", "metric": metric, **thresholds}, where="g", base=Path())


def hits(right, total):
    return [[1.0]] * right + [[0.0]] * (total - right)


def accuracy(right, reference, total=100, **further):
    """Top-1 of two models that are right on the first so many samples."""
    settings = {
        "value_rows": hits(right, total),
        "reference_rows": None if reference is None else hits(reference, total),
        "data": {"sha256": "same"},
        **further,
    }
    base = None if reference is None else reference / total
    return Measurement("top1", "share", "own", True, right / total, base, total, binary=True, **settings)


def pair(metric, value, rows=None, *, unit="share", reference=1.0, higher=True, binary=False, **further):
    samples = 0 if rows is None else len(rows)
    return Measurement(metric, unit, "pair", higher, value, reference, samples, rows, binary=binary, **further)


def test_drop_from_the_float_model():
    verdict = judge(gate(max_drop=0.05), accuracy(80, 84))
    assert verdict.passed
    assert (verdict.base, verdict.base_name, verdict.budget) == (0.84, "float", 0.05)
    assert verdict.drop == pytest.approx(0.04)
    assert verdict.reasons == verdict.notes == []


def test_a_drop_too_large():
    verdict = judge(gate(max_drop=0.01), accuracy(80, 84))
    assert not verdict.passed
    assert verdict.reasons == ["top1 is worse than the float model by 4.00 pp; allowed 1.00 pp"]


def test_better_is_a_negative_drop():
    verdict = judge(gate(max_drop=0), accuracy(84, 80))
    assert verdict.passed
    assert verdict.drop == pytest.approx(-0.04)


def test_rounding_fails_no_gate():
    """0.85 − 0.84 is 0.010000000000000009, and a mean may miss 0.9 by one unit in the last place."""
    assert judge(gate(max_drop=0.01), accuracy(84, 85)).passed
    assert judge(gate(min_value=0.9), pair("m", 0.9 - 1e-16)).passed
    assert not judge(gate(max_drop=0.01), accuracy(83, 85)).passed
    assert not judge(gate(min_value=0.9), pair("m", 0.9 - 1e-6)).passed


def test_rounding_counts_relative_to_the_numbers():
    """A tiny error is no rounding of zero."""
    tiny = pair("mse", 1e-10, unit="", reference=0.0, higher=False)
    assert not judge(gate("mse", max_value=0), tiny).passed
    assert not judge(gate("mse", max_drop=0), tiny).passed
    assert not judge(gate("mse", max_value=1e-11), tiny).passed
    same = pair("mse", 0.1, unit="", reference=0.1, higher=False)
    assert judge(gate("mse", max_drop=0, max_value=0.1), same).passed


def test_numbers_are_told_apart_in_reasons():
    verdict = judge(gate(min_value=0.9), pair("agreement", 0.899999))
    assert verdict.reasons == ["agreement is 89.9999 %; min_value is 90.0000 %"]


def test_limits_of_the_value():
    measurement = pair("size_ratio", 0.3, unit="ratio", higher=False)
    assert judge(gate("size_ratio", max_value=0.3, min_value=0.3), measurement).passed
    verdict = judge(gate("size_ratio", max_value=0.25, min_value=0.5), measurement)
    assert verdict.reasons == ["size_ratio is 0.30×; min_value is 0.50×", "size_ratio is 0.30×; max_value is 0.25×"]
    assert verdict.drop is None


def test_lower_is_better():
    measurement = pair("mse", 0.3, unit="", reference=0.0, higher=False)
    verdict = judge(gate("mse", max_drop=0.2), measurement)
    assert not verdict.passed
    assert verdict.drop == pytest.approx(0.3)
    assert verdict.base_name == "equal models"
    assert verdict.reasons == ["mse is worse than that of equal models by 0.3; allowed 0.2"]


@pytest.mark.parametrize("thresholds", [{"max_drop": 1.0}, {"min_value": 0.0}, {"max_value": 1.0}])
def test_nan_never_passes(thresholds):
    verdict = judge(gate(**thresholds), Measurement("top1", "share", "own", True, math.nan, 0.8, 10))
    assert not verdict.passed
    assert verdict.reasons == ["top1 is not a number (NaN)"]


def test_a_base_that_is_nan_passes_no_drop():
    assert not judge(gate(max_drop=1), Measurement("top1", "share", "own", True, 0.8, math.nan, 10)).passed


def test_infinite_values():
    equal = pair("sqnr_db", math.inf, unit="dB", reference=math.inf)
    assert judge(gate("sqnr_db", min_value=20), equal).passed
    assert judge(gate("sqnr_db", max_drop=1), equal, equal).drop == 0
    noisy = pair("sqnr_db", 30.0, unit="dB", reference=math.inf)
    worse = judge(gate("sqnr_db", max_drop=1), noisy, equal)
    assert (worse.passed, worse.drop) == (False, math.inf)
    assert judge(gate("sqnr_db", max_drop=1), equal, noisy).drop == -math.inf
    lost = pair("sqnr_db", -math.inf, unit="dB", reference=math.inf)
    assert not judge(gate("sqnr_db", min_value=20), lost).passed
    assert not judge(gate("max_error", max_value=1), pair("max_error", math.inf, unit="", higher=False)).passed


@pytest.mark.parametrize(
    ("metric", "worst", "good", "higher"),
    [("mse", math.inf, 0.1, False), ("sqnr_db", -math.inf, 30.0, True), ("mse", math.nan, 0.1, False)],
)
def test_a_baseline_than_which_nothing_is_worse(metric, worst, good, higher):
    lost, found = (pair(metric, value, unit="", higher=higher) for value in (worst, good))
    for measurement in (lost, found):
        verdict = judge(gate(metric, max_drop=1.0), measurement, lost)
        assert not verdict.passed
        assert "update the baseline" in verdict.reasons[0]


def test_the_worst_infinity_never_passes():
    for value, reference, higher in ((math.inf, math.inf, False), (0.1, math.inf, False), (-math.inf, -math.inf, True)):
        measurement = Measurement("own_metric", "", "own", higher, value, reference, 10)
        assert not judge(gate("own_metric", max_drop=1), measurement).passed, (value, reference)


@pytest.mark.parametrize(
    ("measurement", "hint"),
    [
        (accuracy(80, None), "Give the float model as reference="),
        (pair("sqnr_db", 30.0, reference=math.inf), "use min_value= or max_value= instead"),
        (pair("bit_equal", 1.0, reference=None), "Name a baseline="),
    ],
)
def test_a_drop_from_nothing(measurement, hint):
    with pytest.raises(ConfigError, match="nothing to count a drop from") as caught:
        judge(gate(measurement.metric, max_drop=0.1), measurement)
    assert hint in caught.value.hint


# Statistics


def test_paired_hits():
    """20 samples fall, 2 rise: the interval and the test are of these."""
    reference = hits(84, 100)
    value = [[0.0]] * 20 + hits(64, 78) + [[1.0]] * 2
    verdict = judge(gate(max_drop=0.05), accuracy(66, 84, value_rows=value))
    base, quantized = np.ravel(reference), np.ravel(value)
    assert verdict.interval == paired_drop_interval(base, quantized, 0.95)
    assert verdict.interval_of == "drop"
    assert verdict.p_value == mcnemar(base, quantized)
    assert verdict.interval[0] < verdict.drop < verdict.interval[1]


def test_agreement_has_a_wilson_interval():
    measurement = pair("agreement", 0.9, hits(90, 100), binary=True)
    low, high = wilson(90, 100, 0.95)
    verdict = judge(gate("agreement", min_value=0.8), measurement)
    assert (verdict.interval, verdict.interval_of) == ((low, high), "value")
    verdict = judge(gate("agreement", max_drop=0.2), measurement)
    assert verdict.interval == pytest.approx((1 - high, 1 - low))
    assert verdict.p_value is None


def signal_and_noise(noise, samples=200, seed=0):
    generator = np.random.default_rng(seed)
    rows = np.zeros((samples, 3))
    rows[:, 0], rows[:, 1] = generator.uniform(0.5, 1.5, samples), noise * generator.uniform(0.5, 1.5, samples)
    value = 10 * math.log10(rows[:, 0].sum() / rows[:, 1].sum())
    data = {"sha256": "same"}
    return pair("sqnr_db", value, rows.tolist(), unit="dB", reference=math.inf, data=data)


def test_other_metrics_are_bootstrapped():
    measurement = signal_and_noise(1e-3)
    verdict = judge(gate("sqnr_db", min_value=20), measurement)
    low, high = verdict.interval
    assert low < measurement.value < high < low + 1
    assert verdict.p_value is None


def test_a_baseline_of_the_same_samples_is_paired():
    """Twice the noise on every sample: 3.01 dB, exactly, whatever samples are drawn."""
    worse, base = signal_and_noise(2e-3), signal_and_noise(1e-3)
    verdict = judge(gate("sqnr_db", max_drop=1), worse, base)
    assert verdict.base_name == "baseline"
    assert verdict.drop == pytest.approx(3.0103)
    assert verdict.interval == pytest.approx((3.0103, 3.0103), abs=1e-4)


def test_lower_is_better_keeps_the_sign_of_intervals():
    errors = np.random.default_rng(0).uniform(1, 3, 200)
    worse, base = (
        pair("own_error", float(e.mean()), e[:, None].tolist(), unit="", higher=False, data={"sha256": "x"})
        for e in (errors + 0.5, errors)
    )
    assert judge(gate("own_error", max_drop=0.1), worse, base).interval == pytest.approx((0.5, 0.5))
    low, high = judge(gate("own_error", max_drop=9), worse).interval  # from equal models: 1 − value, turned round
    assert 1.3 < low < 1.5 < high < 1.7


def test_a_baseline_of_hits_has_mcnemar():
    verdict = judge(gate(max_drop=0.5), accuracy(70, None), accuracy(80, None))
    assert verdict.p_value == mcnemar(np.ravel(hits(80, 100)), np.ravel(hits(70, 100)))


def test_a_baseline_of_unknown_data_counts_as_exact():
    verdict = judge(gate(max_drop=0.5), accuracy(70, None, data={}), accuracy(80, None, data={}))
    low, high = wilson(70, 100, 0.95)
    assert verdict.interval == pytest.approx((0.8 - high, 0.8 - low))
    assert verdict.p_value is None


# Significance


def test_few_samples_fail_no_gate_by_chance():
    measurement = accuracy(43, 45, total=50)
    assert not judge(gate(max_drop=0.01), measurement).passed
    verdict = judge(gate(max_drop=0.01, significance=0.05), measurement)
    assert verdict.passed
    assert verdict.within_chance
    missed = "top1 is worse than the float model by 4.00 pp; allowed 1.00 pp"
    assert verdict.notes == [f"{missed}: within chance at significance 0.05 with 50 samples"]


def test_many_samples_fail_all_the_same():
    verdict = judge(gate(max_drop=0.01, significance=0.05), accuracy(860, 900, total=1000))
    assert (verdict.passed, verdict.within_chance) == (False, False)


def test_the_bound_is_one_sided():
    """At 0.05 the bound is the lower end of the 90 % interval."""
    measurement = accuracy(85, 90)
    low = paired_drop_interval(np.ravel(hits(90, 100)), np.ravel(hits(85, 100)), 0.9)[0]
    assert judge(gate(max_drop=low + 1e-6, significance=0.05), measurement).passed
    assert not judge(gate(max_drop=low - 1e-6, significance=0.05), measurement).passed


def test_limits_of_the_value_by_chance():
    measurement = pair("agreement", 0.88, hits(88, 100), binary=True)
    low, high = wilson(88, 100, 0.9)
    for thresholds, passes in [
        ({"min_value": high - 1e-6}, True),
        ({"min_value": high + 1e-6}, False),
        ({"max_value": low + 1e-6}, True),
        ({"max_value": low - 1e-6}, False),
    ]:
        verdict = judge(gate("agreement", significance=0.05, **thresholds), measurement)
        assert (verdict.passed, verdict.within_chance) == (passes, passes), thresholds


def test_one_of_two_thresholds_by_chance_is_not_enough():
    verdict = judge(gate(max_drop=0.01, min_value=0.99, significance=0.05), accuracy(43, 45, total=50))
    assert not verdict.passed
    assert [reason.split(";")[0] for reason in verdict.reasons] == ["top1 is 86.00 %"]


def test_what_is_infinitely_bad_is_no_chance():
    """One sample of ten has NaN among its outputs: a third of the draws miss it."""
    rows = [[1.0, 1e-3, 0.0]] * 9 + [[1.0, 1e-3, 1.0]]
    broken = pair("sqnr_db", -math.inf, rows, unit="dB", reference=math.inf, data={"sha256": "x"})
    assert not judge(gate("sqnr_db", min_value=20, significance=0.05), broken).passed
    equal = pair("sqnr_db", math.inf, [[1.0, 0.0, 0.0]] * 10, unit="dB", reference=math.inf, data={"sha256": "x"})
    noisy = pair("sqnr_db", 40.0, [[1.0, 0.0, 0.0]] * 9 + [[1.0, 1e-3, 0.0]], unit="dB", data={"sha256": "x"})
    assert judge(gate("sqnr_db", max_drop=1, significance=0.05), noisy, equal).drop == math.inf
    assert not judge(gate("sqnr_db", max_drop=1, significance=0.05), noisy, equal).passed


def test_significance_without_rows_says_so():
    verdict = judge(gate("size_ratio", max_value=0.25, significance=0.05), pair("size_ratio", 0.3, unit="ratio"))
    assert not verdict.passed
    assert verdict.notes == ["no confidence interval: size_ratio has no value per sample"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"value_rows": [[1.0, 0.1, 0.0]]}, "one sample tells nothing"),
        ({"value_rows": [[1.0, math.inf, 0.0], [1.0, 0.1, 0.0]]}, "some samples have no finite value"),
        ({"metric": "gone"}, "the metric 'gone' is not installed here"),
        ({"value_rows": [[1.0, 0.1], [1.0, 0.1]]}, "the samples are not what the metric 'sqnr_db'"),
        ({"value_rows": [[1.0, 0.1, 0.0]] * 2}, "the samples make 10, not the value 30"),
    ],
)
def test_why_there_is_no_interval(changes, why):
    measurement = signal_and_noise(1e-3)
    measurement.value = 30.0
    for name, value in changes.items():
        setattr(measurement, name, value)
    verdict = judge(gate(measurement.metric, min_value=20), measurement)
    assert verdict.passed
    assert verdict.interval is None
    assert len(verdict.notes) == 1
    assert why in verdict.notes[0]


def test_a_value_that_some_draws_do_not_have():
    """The mean over all elements, of which only one sample has any."""
    measurement = pair("mse", 0.25, [[0.0, 0.0, 0.0]] * 9 + [[4.0, 1.0, 0.0]], unit="", higher=False)
    verdict = judge(gate("mse", max_value=1), measurement)
    assert verdict.passed
    assert verdict.interval is None
    assert verdict.notes == ["no confidence interval: the value is undefined for some choices of samples"]


def test_rows_of_a_metric_nobody_knows_are_a_mean():
    measurement = pair("of_my_own", 2.0, [[1.0], [2.0], [3.0]], unit="")
    assert judge(gate("of_my_own", min_value=1), measurement).interval == (1.0, 3.0)


# Baselines


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (pair("agreement", 0.9), "the baseline is of agreement, the gate measures top1"),
        (
            accuracy(80, 84, options={"k": 3}),
            r"the baseline was measured with the options \{'k': 3\}, the gate has none",
        ),
        (accuracy(40, 42, total=50, data={"sha256": "other"}), r"on other data \(50 samples, here 100\)"),
    ],
)
def test_baselines_of_something_else(baseline, reason):
    verdict = judge(gate(min_value=0), accuracy(80, 84), baseline)
    assert not verdict.passed
    assert len(verdict.reasons) == 1
    assert re.search(reason, verdict.reasons[0])
    assert "update" in verdict.reasons[0]


def test_where_files_of_options_lie_does_not_matter():
    ours, theirs = ({"decode": f"{folder}/dec.py:texts", "k": 3} for folder in ("/home/me", "/ci/build"))
    assert judge(gate(max_drop=0.1), accuracy(80, 84, options=ours), accuracy(80, 84, options=theirs)).passed
    other = {"decode": "/home/me/dec.py:words", "k": 3}
    assert not judge(gate(max_drop=0.1), accuracy(80, 84, options=ours), accuracy(80, 84, options=other)).passed


def test_another_environment_is_named():
    here = {"isa": "avx512vnni", "onnxruntime": "1.17.3"}
    verdict = judge(
        gate(max_drop=0.1), accuracy(80, 84, environment=here), accuracy(80, 84, environment=dict(ELSEWHERE))
    )
    assert verdict.passed
    assert verdict.notes == ["the baseline was measured in another environment: isa avx512vnni (there avx2)"]


def test_another_float_model_is_named():
    ours, theirs = ({"reference": {"sha256": digest}} for digest in "ab")
    verdict = judge(gate(max_drop=0.1), accuracy(80, 84, models=ours), accuracy(80, 84, models=theirs))
    assert verdict.notes == ["the float model is another file than the baseline's"]
