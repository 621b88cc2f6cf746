"""The sketch on examples worked out by hand: grid, bins, merge, channels, bytes."""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib

import numpy as np
import pytest

from ort_quant_plugin.calibration.sketch import ChannelRanges, Sketch, grid_exponent, merge
from ort_quant_plugin.errors import CalibrationError

FLT_MAX = float(np.finfo(np.float32).max)
DENORMAL = 2.0**-149
INF = math.inf


@pytest.mark.parametrize(
    ("magnitude", "exponent"),
    [
        (0.0, -120),
        (DENORMAL, -120),
        (2.0**-108, -120),
        (math.nextafter(2.0**-107, 0), -120),
        (2.0**-107, -119),
        (0.75, -13),
        (1.0, -12),
        (math.nextafter(2.0, 0), -12),
        (2.0, -11),
        (4096.0, 0),
        (8191.5, 0),
        (8192.0, 1),
        (FLT_MAX, 115),
    ],
)
def test_grid_is_floor_of_log2_less_12(magnitude, exponent):
    assert grid_exponent(magnitude) == exponent


@pytest.mark.parametrize(
    ("values", "first_bin", "counts"),
    [
        # k = −12 throughout: absolute maximum in [1, 2), bins 2⁻¹² wide
        ([1.0], 4096, [1]),
        ([-1.0], -4096, [1]),
        ([1 - 2**-24, 1.0], 4095, [1, 1]),  # below the edge, on the edge
        ([-1 - 2**-23, -1.0], -4097, [1, 1]),  # the edge belongs to the bin above it
        ([1.0, 2**-12, 2**-13, 0.0], 0, [1, 1, *[0] * 4094, 1]),
        ([1.0, -(2.0**-12), -(2.0**-13), DENORMAL, -DENORMAL], -1, [3, 1, *[0] * 4095, 1]),
        ([-1.0, 1.0], -4096, [1, *[0] * 8191, 1]),
        ([2 - 2**-23, -2 + 2**-23], -8192, [1, *[0] * 16382, 1]),  # all bins there are
        ([], 0, []),
        ([0.0, -0.0], 0, []),
    ],
)
def test_bins(values, first_bin, counts):
    sketch = Sketch.of(np.array(values, np.float32))
    assert (sketch.first_bin, sketch.counts.tolist()) == (first_bin, counts)
    assert sketch.counts.dtype == np.uint64
    assert sketch.exponent == (-12 if counts else -120)
    assert sketch.width == 2.0**sketch.exponent


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_and_the_smallest_magnitude_have_a_bin(sign):
    extreme = Sketch.of(np.array([sign * FLT_MAX, sign * DENORMAL], np.float32))
    assert extreme.exponent == 115
    assert np.flatnonzero(extreme.counts).tolist() == [0, 8191]
    assert extreme.first_bin == (0 if sign == 1 else -8192)
    tiny = Sketch.of(np.array([sign * DENORMAL], np.float32))
    assert (tiny.exponent, tiny.first_bin) == (-120, 0 if sign == 1 else -1)


def test_facts_about_the_values():
    values = [0.0, -0.0, 1.5, -0.25, math.nan, INF, INF, -INF]
    sketch = Sketch.of(np.array(values, np.float32), "x")
    assert (sketch.key, sketch.count, sketch.zeros, sketch.nan) == ("x", 4, 2, 1)
    assert (sketch.positive_infinity, sketch.negative_infinity, sketch.non_finite) == (2, 1, 4)
    assert (sketch.minimum, sketch.maximum, sketch.absmax) == (-0.25, 1.5, 1.5)
    assert (sketch.total, sketch.total_abs, sketch.total_squares) == (1.25, 1.75, 2.3125)
    assert not sketch.empty


def test_nothing_zeros_and_non_finite_values():
    for values in ([], [math.nan, INF]):
        sketch = Sketch.of(np.array(values, np.float32))
        assert sketch.empty
        assert (sketch.minimum, sketch.maximum, sketch.absmax, sketch.exponent) == (INF, -INF, 0, -120)
    zeros = Sketch.of(np.array([-0.0, -0.0], np.float32))
    assert (zeros.minimum, zeros.maximum, zeros.count, zeros.zeros) == (0, 0, 2, 2)
    assert math.copysign(1, zeros.minimum) == math.copysign(1, zeros.maximum) == 1


def test_any_shape_and_any_dtype():
    values = np.linspace(-1, 1, 24, dtype=np.float16)
    expected = Sketch.of(values.astype(np.float32))
    assert Sketch.of(values) == Sketch.of(values.reshape(2, 3, 4)) == Sketch.of(values.astype(np.float64)) == expected
    assert Sketch.of(np.float32(2.5)).count == 1
    assert Sketch.of(np.zeros((3, 0, 2), np.float32)).empty
    assert Sketch.of([1e300, 1.0]).positive_infinity == 1


def test_merge_moves_the_finer_grid_onto_the_coarser_one():
    # 1.5 and −1.5 lie in bins 6144 and −6144 of 2⁻¹²; at 2⁻¹⁰ (absolute maximum 4) in 1536 and −1536.
    fine, coarse = Sketch.of([1.5, 1.5 + 2**-12, -1.5, -1.5 - 2**-12], "fine"), Sketch.of([4.0, 0.0], "coarse")
    assert (fine.first_bin, fine.exponent, coarse.exponent) == (-6145, -12, -10)
    merged = fine.merged_with(coarse)
    assert (merged.key, merged.exponent, merged.first_bin) == ("fine", -10, -1537)
    used = np.flatnonzero(merged.counts)
    assert dict(zip((used + merged.first_bin).tolist(), merged.counts[used].tolist(), strict=True)) == {
        -1537: 1,  # −1.5 − 2⁻¹² is bin −6145, floor(−6145 / 4)
        -1536: 1,
        1536: 2,
        4096: 1,
    }
    assert (merged.count, merged.zeros, merged.minimum, merged.maximum) == (6, 1, -1.5 - 2**-12, 4.0)
    assert merged.total == pytest.approx(4.0)


def test_merge_over_the_whole_range_of_grids():
    merged = Sketch.of([1e-30, -1e-30]).merged_with(Sketch.of([1e30]))
    assert merged == Sketch.of([1e-30, -1e-30, 1e30])
    assert merged.counts[:2].tolist() == [1, 1]
    assert merged.first_bin == -1


def test_merge_by_key_keeps_the_order():
    found = merge([Sketch.of([1.0], "b"), Sketch.of([2.0], "a"), Sketch.of([3.0], "b")])
    assert list(found) == ["b", "a"]
    assert found["b"] == Sketch.of([1.0, 3.0], "b")


def test_merge_with_another_axis_or_number_of_channels_is_refused():
    sketch = Sketch.of(np.ones((2, 3)), "x", axis=0)
    for other in (Sketch.of(np.ones((2, 3))), Sketch.of(np.ones((2, 3)), axis=1), Sketch.of(np.ones((3, 3)), axis=0)):
        for one, two in ((sketch, other), (other, sketch)):
            with pytest.raises(CalibrationError, match="their channels differ") as caught:
                one.merged_with(two)
            assert caught.value.hint


def test_more_values_than_can_be_counted_are_refused():
    half = dataclasses.replace(
        Sketch.of([1.0], "x"), counts=np.array([1 << 63], np.uint64), count=1 << 63, nan=(1 << 63) - 1
    )
    assert Sketch.from_bytes(half.to_bytes()) == half
    assert half.merged_with(Sketch()).to_bytes() == half.to_bytes()
    for other in (half, Sketch.of([1.0])):
        with pytest.raises(CalibrationError, match="count more than 18446744073709551615 values"):
            half.merged_with(other)


def test_channels():
    values = np.array([[[1, -2], [0, 3]], [[math.nan, 5], [-0.0, -INF]], [[math.nan] * 2] * 2], np.float32)
    ranges = Sketch.of(values, axis=0).channels
    assert ranges.minimum.tolist() == [-2, 0, INF]
    assert ranges.maximum.tolist() == [3, 5, -INF]
    assert ranges.absmax.tolist() == [3, 5, 0]
    assert not np.signbit(ranges.minimum[1])
    assert Sketch.of(values, axis=-3).channels.minimum.tolist() == [-2, 0, INF]
    assert Sketch.of(values, axis=2).channels.minimum.tolist() == [0, -2]
    both = Sketch.of(values, axis=0).merged_with(Sketch.of(-values, axis=0)).channels
    assert both == ChannelRanges(0, np.array([-3, -5, INF], np.float32), np.array([3, 5, -INF], np.float32))
    assert Sketch.of(np.zeros((4, 0)), axis=0).channels.maximum.tolist() == [-INF] * 4
    assert Sketch.of(np.zeros((4, 0)), axis=1).channels.maximum.tolist() == []


@pytest.mark.parametrize(("shape", "axis"), [((2, 3), 2), ((2, 3), -3), ((), 0), ((), -1)])
def test_an_axis_the_tensor_lacks_is_refused(shape, axis):
    with pytest.raises(CalibrationError, match=f"'x' of rank {len(shape)} has no axis {axis}") as caught:
        Sketch.of(np.ones(shape), "x", axis=axis)
    assert caught.value.hint


def test_equality_leaves_out_the_sums_only():
    sketch = Sketch.of([1.0, 2.0], "x")
    assert dataclasses.replace(sketch, total=0.0, total_abs=0.0, total_squares=0.0) == sketch
    for change in ({"key": "y"}, {"zeros": 1}, {"nan": 1}, {"maximum": 1.5}, {"counts": sketch.counts * 2}):
        assert dataclasses.replace(sketch, **change) != sketch
    assert sketch.renamed("y") == dataclasses.replace(sketch, key="y")


# -- bytes -----------------------------------------------------------------------------------------------------------

ABOVE = 1 + 2.0**-12
VALUES = np.array([[1, 1, math.nan], [ABOVE, 0, INF]], np.float32)
"""k = −12: two values in bin 4096, one in 4097."""

HEADER = [
    ("<4s", b"OQSK"), ("<H", 1), ("<H", 1), ("<I", 133), ("<i", -12),
    ("<Q", 4), ("<Q", 1), ("<Q", 1), ("<Q", 1), ("<Q", 0),
    ("<f", 0.0), ("<f", ABOVE), ("<d", 3 + 2.0**-12), ("<d", 3 + 2.0**-12), ("<d", 3 + 2.0**-11 + 2.0**-24),
    ("<i", 4096), ("<I", 2), ("<B", 1), ("<B", 0), ("<H", 3),
]  # fmt: skip
KEY, COUNTERS = "xé".encode(), b"\x02\x01"
CHANNELS = struct.pack("<iI4f", -2, 2, 1.0, 0.0, 1.0, ABOVE)
NAMES = [
    "magic", "version", "flags", "size", "exponent", "count", "zeros", "nan", "positive", "negative", "minimum",
    "maximum", "total", "total_abs", "total_squares", "first_bin", "bins", "counter_bytes", "reserved", "key_bytes",
]  # fmt: skip


def packed(key=KEY, counters=COUNTERS, channels=CHANNELS, **changes):
    """The example with changed header fields, its checksum right; the size follows unless it is given."""
    fields = dict(zip(NAMES, HEADER, strict=True))
    body = key + counters + channels
    sizes = {"size": 100 + len(body) + 4, "key_bytes": len(key)}
    for name, value in {**sizes, **changes}.items():
        fields[name] = (fields[name][0], value)
    content = b"".join(struct.pack(kind, value) for kind, value in fields.values()) + body
    return content + struct.pack("<I", zlib.crc32(content))


def test_bytes_are_those_of_the_format():
    sketch = Sketch.of(VALUES, "xé", axis=-2)
    assert len(sketch.to_bytes()) == 133
    assert sketch.to_bytes() == packed()
    read = Sketch.from_bytes(packed())
    assert read == sketch
    assert (read.total, read.total_abs, read.total_squares) == (sketch.total, sketch.total_abs, sketch.total_squares)


@pytest.mark.parametrize(("count", "size"), [(255, 1), (256, 2), (65535, 2), (65536, 4), (1 << 32, 8)])
def test_counters_are_as_narrow_as_they_can_be(count, size):
    sketch = dataclasses.replace(Sketch.of([1.0]), counts=np.array([count], np.uint64), count=count)
    data = sketch.to_bytes()
    assert len(data) == 100 + size + 4
    assert data[96] == size
    assert int.from_bytes(data[100:-4], "little") == count
    assert Sketch.from_bytes(data) == sketch


def test_several_sketches_in_a_row():
    sketches = [Sketch.of([1.0], "a"), Sketch(), Sketch.of([[2.0]], "c", axis=1)]
    data = b"".join(sketch.to_bytes() for sketch in sketches)
    assert Sketch.split(data) == sketches
    assert Sketch.split(b"") == []
    for wrong in (data, b""):
        with pytest.raises(CalibrationError, match=r"holds \d sketches, expected one"):
            Sketch.from_bytes(wrong)
    for cut in (data[:-1], data + b"O", data + data[:50]):
        with pytest.raises(CalibrationError, match="is cut off"):
            Sketch.split(cut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"OQSJ"}, "begins with b'OQSJ'"),
        ({"version": 2}, "has version 2, expected 1"),
        ({"flags": 3}, "has flags 3"),
        ({"flags": 0}, "claims 2 counters"),
        ({"reserved": 1}, "reserved byte of 1"),
        ({"counter_bytes": 3}, "counters of 3 bytes"),
        ({"counter_bytes": 0}, "counters of 0 bytes"),
        ({"size": 134}, "is cut off"),
        ({"size": 0}, "is cut off"),
        ({"size": 132}, "checksum"),
        ({"exponent": -13}, "its grid"),
        ({"exponent": 2**31 - 1}, "its grid"),
        ({"exponent": -121}, "its grid"),
        ({"exponent": -11, "first_bin": 2048, "bins": 1, "counters": b"\x03"}, "its grid"),  # but too coarse
        ({"first_bin": 4095}, "its grid"),
        ({"first_bin": 2**31 - 1}, "its grid"),
        ({"first_bin": -(2**31)}, "its grid"),
        ({"counters": b"\x00\x03"}, "its grid"),
        ({"counters": b"\x03\x00"}, "its grid"),
        ({"bins": 0, "counters": b""}, "its grid"),
        ({"bins": 2**32 - 1}, "claims 4294967295 counters"),
        ({"counters": b"\x02\x02"}, "do not add up"),
        ({"count": 5}, "do not add up"),
        ({"counter_bytes": 8, "counters": struct.pack("<2Q", 2**64 - 1, 4)}, "do not add up"),  # 3 modulo 2⁶⁴
        ({"zeros": 0, "count": 3}, "its grid"),  # the minimum is 0
        ({"minimum": math.nan}, "its grid"),
        ({"minimum": -INF}, "its grid"),
        ({"maximum": INF}, "its grid"),
        ({"minimum": 1.5}, "its grid"),
        ({"minimum": -1.0}, "its grid"),
        ({"total": math.nan}, "sums are not finite"),
        ({"total_squares": INF}, "sums are not finite"),
        ({"channels": CHANNELS[:-4]}, "claims 2 channels"),
        ({"channels": CHANNELS[:4]}, "claims 2 counters"),
        ({"channels": struct.pack("<iI", 0, 2**32 - 1)}, "claims 4294967295 channels"),
        ({"channels": struct.pack("<iI4f", 0, 2, 1, 0, math.nan, ABOVE)}, "NaN in the ranges"),
        ({"channels": struct.pack("<iI4I", 0, 2, 0x7F800001, 0, 0, 0)}, "NaN in the ranges"),  # a signalling one
        ({"channels": struct.pack("<iI4f", 0, 2, 1, 0, 0.5, ABOVE)}, "its channels"),
        ({"channels": struct.pack("<iI4f", 0, 2, 1, 0, 1, 1)}, "its channels"),
        ({"channels": struct.pack("<iI4f", 0, 2, -INF, 0, INF, ABOVE)}, "its channels"),
        ({"key": b"\xff\xfe"}, "not UTF-8"),
        ({"key_bytes": 65535}, "claims 2 counters"),
    ],
)
def test_bytes_no_data_can_have_led_to_are_refused_whatever_their_checksum(changes, message):
    with pytest.raises(CalibrationError, match=message) as caught:
        Sketch.from_bytes(packed(**changes))
    assert caught.value.hint


@pytest.mark.parametrize("key", ["k" * 65536, "é" * 32768, "\ud800"])
def test_a_key_that_does_not_fit_is_refused(key):
    with pytest.raises(CalibrationError, match="cannot be the key") as caught:
        Sketch.of([1.0], key).to_bytes()
    assert caught.value.hint
