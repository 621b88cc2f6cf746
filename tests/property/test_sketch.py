"""Whatever the data, its order and its partition: one sketch, which survives being written and nothing else does."""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ort_quant_plugin.calibration.sketch import Sketch, merge
from ort_quant_plugin.errors import CalibrationError

FLT_MAX = float(np.finfo(np.float32).max)
DENORMAL = 2.0**-149
POWERS = st.integers(-149, 127).map(lambda exponent: 2.0**exponent)
EDGES = st.builds(
    lambda bin_, exponent, step: float(np.nextafter(np.float32(bin_ * 2.0**exponent), np.float32(step * math.inf))),
    st.integers(-8192, 8191),
    st.integers(-120, 114),
    st.sampled_from([-1, 1]),
)
"""One step beside a bin's edge."""

SPECIAL = st.sampled_from(
    [0.0, -0.0, math.nan, math.inf, -math.inf, FLT_MAX, -FLT_MAX, DENORMAL, -DENORMAL, 1e30, -1e30, 1e-30, -1e-30]
)
VALUES = st.one_of(SPECIAL, POWERS, POWERS.map(lambda x: -x), EDGES, st.floats(width=32), st.floats(-4, 4, width=32))
ADVERSARIAL = st.one_of(
    st.lists(VALUES, max_size=30),
    st.tuples(VALUES, st.integers(1, 300)).map(lambda pair: [pair[0]] * pair[1]),  # constants
    st.lists(VALUES, max_size=30).map(lambda values: [-abs(value) for value in values]),
)


def drawn(seed: int, size: int, shape: str) -> list[float]:
    random = np.random.default_rng(seed)
    values = random.standard_normal(size)
    if shape == "wide":
        values *= 10.0 ** random.integers(-30, 30, size)
    elif shape == "relu":
        values = np.maximum(values, 0)
    return values.astype(np.float32).tolist()


DRAWN = st.builds(drawn, st.integers(0, 2**32 - 1), st.integers(0, 2000), st.sampled_from(["normal", "wide", "relu"]))


def cast(values: list[float], dtype: type) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array(values, np.float32).astype(dtype)


DATA = st.builds(cast, ADVERSARIAL | DRAWN, st.sampled_from([np.float32, np.float16]))


def exact_bytes(sketch: Sketch) -> bytes:
    """All but the sums."""
    return replace(sketch, total=0.0, total_abs=0.0, total_squares=0.0).to_bytes()


def assert_same(one: Sketch, other: Sketch) -> None:
    assert one == other
    assert exact_bytes(one) == exact_bytes(other)


@st.composite
def partitions(draw):
    """Data, and the same data in another order, cut into parts."""
    data = draw(DATA)
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(data.size)
    cuts = sorted(draw(st.lists(st.integers(0, data.size), max_size=6)))
    return data, np.split(data[order], cuts)


@settings(deadline=None)
@given(case=partitions())
def test_any_permutation_and_partition_gives_the_same_sketch(case):
    data, parts = case
    whole = Sketch.of(data, "x")
    merged = merge(Sketch.of(part, "x") for part in parts)["x"]
    assert_same(merged, whole)
    magnitude = max(whole.total_abs, DENORMAL)
    assert math.isclose(merged.total, whole.total, abs_tol=1e-12 * magnitude)
    assert math.isclose(merged.total_squares, whole.total_squares, rel_tol=1e-12)


@settings(deadline=None)
@given(a=DATA, b=DATA, c=DATA)
def test_merge_is_commutative_and_associative(a, b, c):
    one, two, three = (Sketch.of(data, "x") for data in (a, b, c))
    assert_same(one.merged_with(two), two.merged_with(one))
    assert_same(one.merged_with(two).merged_with(three), one.merged_with(two.merged_with(three)))
    assert_same(one.merged_with(Sketch(key="x")), one)
    assert_same(Sketch(key="x").merged_with(one), one)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 5), cut=st.integers(0, 8), axis=st.sampled_from([1, -2]))
def test_channel_ranges_do_not_depend_on_the_batches(seed, channels, cut, axis):
    random = np.random.default_rng(seed)
    data = random.standard_normal((8, channels, 3)).astype(np.float32)
    data[random.random(data.shape) < 0.3] = random.choice([0.0, -0.0, math.nan, math.inf, 1e30])
    whole = Sketch.of(data, "x", axis=axis)
    data = data[random.permutation(8)]
    assert_same(Sketch.of(data[:cut], "x", axis=axis).merged_with(Sketch.of(data[cut:], "x", axis=axis)), whole)
    assert_same(Sketch.from_bytes(whole.to_bytes()), whole)


@settings(deadline=None)
@given(data=DATA)
@example(data=np.array([1e-30, 1e30], np.float32))
@example(data=np.array([FLT_MAX, DENORMAL], np.float32))
@example(data=np.array([-FLT_MAX, -DENORMAL], np.float32))
def test_every_value_is_counted_in_its_bin(data):
    """Against integers and fractions: no floating-point arithmetic in the expected values."""
    sketch = Sketch.of(data)
    values = [float(value) for value in data]
    finite = [value for value in values if math.isfinite(value)]
    exact = [Fraction(value) for value in finite if value]
    exponent = max(-120, min(115, _floor_log2(max(map(abs, exact))) - 12)) if exact else -120
    assert sketch.exponent == exponent
    bins = Counter(math.floor(value / Fraction(2) ** exponent) for value in exact)
    assert all(-8192 <= index < 8192 for index in bins)
    used = np.flatnonzero(sketch.counts)
    assert dict(zip((used + sketch.first_bin).tolist(), sketch.counts[used].tolist(), strict=True)) == bins
    assert sketch.counts.size == (max(bins) - min(bins) + 1 if bins else 0)
    assert (sketch.count, sketch.zeros) == (len(finite), len(finite) - len(exact))
    assert sketch.nan == sum(map(math.isnan, values))
    assert sketch.positive_infinity == values.count(math.inf)
    assert sketch.negative_infinity == values.count(-math.inf)
    assert sketch.minimum == min(finite, default=math.inf)
    assert sketch.maximum == max(finite, default=-math.inf)


def _floor_log2(value: Fraction) -> int:
    power = value.numerator.bit_length() - value.denominator.bit_length()
    return power if Fraction(2) ** power <= value else power - 1


@settings(deadline=None)
@given(parts=st.lists(DATA, max_size=4), key=st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_written_and_read_back(parts, key):
    sketches = [Sketch.of(part, f"{key}{index}") for index, part in enumerate(parts)]
    data = b"".join(sketch.to_bytes() for sketch in sketches)
    again = Sketch.split(data)
    assert again == sketches
    assert b"".join(sketch.to_bytes() for sketch in again) == data


@settings(deadline=None)
@given(data=DATA, axis=st.sampled_from([None, 0]), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused(data, axis, place, bit):
    content = bytearray(Sketch.of(data, "tensor", axis=axis).to_bytes())
    content[int(place * len(content))] ^= 1 << bit
    with pytest.raises(CalibrationError):
        Sketch.from_bytes(bytes(content))


@settings(deadline=None)
@given(data=DATA, keep=st.floats(0, 1, exclude_max=True), more=st.binary(min_size=1, max_size=200))
def test_cut_and_lengthened_bytes_are_refused(data, keep, more):
    content = Sketch.of(data, "tensor").to_bytes()
    for wrong in (content[: int(keep * len(content))], content + more, more + content):
        with pytest.raises(CalibrationError):
            Sketch.from_bytes(wrong)


@settings(deadline=None)
@given(content=st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: b"OQSK\1\0" + rest))
def test_any_bytes_are_refused(content):
    with pytest.raises(CalibrationError):
        Sketch.from_bytes(content)


@settings(deadline=None)
@given(
    data=DATA,
    axis=st.sampled_from([None, 0]),
    changes=st.lists(st.tuples(st.integers(8, 140), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_forged_fields_give_a_sound_sketch_or_are_refused(data, axis, changes):
    """The checksum is right here, so what is inside must hold by itself."""
    content = bytearray(Sketch.of(data, "tensor", axis=axis).to_bytes())
    for place, value in changes:
        content[min(place, len(content) - 5)] = value
    content[8:12] = struct.pack("<I", len(content))
    content[-4:] = struct.pack("<I", zlib.crc32(content[:-4]))
    try:
        sketch = Sketch.from_bytes(bytes(content))
    except CalibrationError:
        return
    assert sketch.count == sketch.zeros + sum(sketch.counts.tolist())
    assert Sketch.from_bytes(sketch.to_bytes()) == sketch
    assume(sketch.count + sketch.non_finite < 2**62)
    doubled = sketch.merged_with(sketch)
    assert (doubled.exponent, doubled.minimum, doubled.count) == (sketch.exponent, sketch.minimum, 2 * sketch.count)
