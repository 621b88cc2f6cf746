"""Sketches as bytes: what ``ort_quant.Observe`` puts out and what is kept in files. Version 1, little-endian.

======  =====  =================================================================================================
offset  type   content
======  =====  =================================================================================================
0       4 s    ``OQSK``
4       u16    version, 1
6       u16    flags: bit 0 = there are channels; the others 0
8       u32    size of the sketch in bytes, all of it
12      i32    ``k``, −120 … 115
16      u64    finite values
24      u64    of these exact zeros
32      u64    NaNs
40      u64    values +inf
48      u64    values −inf
56      f32    minimum, +inf without finite values; never −0
60      f32    maximum, −inf without finite values; never −0
64      f64    Σx
72      f64    Σ|x|
80      f64    Σx²
88      i32    index of the first counter's bin, −8192 … 8191; 0 without counters
92      u32    number of counters ``n``; the first and the last one are above 0
96      u8     bytes a counter ``b``: 1, 2, 4 or 8, as few as the largest one needs
97      u8     0
98      u16    bytes of the key
100            the key in UTF-8, then ``n`` counters of ``b`` bytes
then           with channels: i32 axis, u32 ``C``, ``C`` f32 minima, ``C`` f32 maxima (+inf, −inf for a channel
               without finite values)
end     u32    CRC-32 of everything before
======  =====  =================================================================================================

Several sketches follow each other without a gap. Whoever reads checks everything that follows from something else,
so bytes that no data can have led to are refused, even where the checksum is right.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from ort_quant_plugin.calibration.sketch import (
    BINS_PER_SIDE,
    MAX_EXPONENT,
    MIN_EXPONENT,
    ChannelRanges,
    Sketch,
    grid_exponent,
)
from ort_quant_plugin.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["deserialize", "deserialize_all", "serialize"]

_MAGIC, _VERSION, _HAS_CHANNELS = b"OQSK", 1, 1
_START = struct.Struct("<4sHHI")
_HEADER = struct.Struct("<4sHHIiQQQQQffdddiIBBH")
_CHANNELS = struct.Struct("<iI")
_CHECKSUM = struct.Struct("<I")


def serialize(sketch: Sketch) -> bytes:
    """Write one sketch.

    Raises:
        CalibrationError: The key has more than 65535 bytes, or is not text that UTF-8 can hold.
    """
    key = _encoded(sketch.key)
    largest = int(sketch.counts.max(initial=0))
    counter_bytes = next(size for size in (1, 2, 4, 8) if largest < 1 << (8 * size))
    body = key + sketch.counts.astype(f"<u{counter_bytes}").tobytes()
    if sketch.channels is not None:
        ranges = sketch.channels
        body += _CHANNELS.pack(ranges.axis, ranges.minimum.size)
        body += ranges.minimum.astype("<f4").tobytes() + ranges.maximum.astype("<f4").tobytes()
    flags = _HAS_CHANNELS if sketch.channels is not None else 0
    header = _HEADER.pack(
        _MAGIC, _VERSION, flags, _HEADER.size + len(body) + _CHECKSUM.size, sketch.exponent,
        sketch.count, sketch.zeros, sketch.nan, sketch.positive_infinity, sketch.negative_infinity,
        sketch.minimum, sketch.maximum, sketch.total, sketch.total_abs, sketch.total_squares,
        sketch.first_bin, sketch.counts.size, counter_bytes, 0, len(key),
    )  # fmt: skip
    return header + body + _CHECKSUM.pack(zlib.crc32(header + body))


def _encoded(key: str) -> bytes:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        encoded = None
    if encoded is None or len(encoded) > 0xFFFF:
        raise CalibrationError(
            f"The name {key[:60]!r} cannot be the key of a sketch; expected at most 65535 bytes of UTF-8.",
            hint="Rename the tensor.",
            tensor=key,
        )
    return encoded


def deserialize(data: bytes) -> Sketch:
    """Read exactly one sketch.

    Raises:
        CalibrationError: The bytes are not a sketch, of another version, cut off or damaged.
    """
    sketches = list(deserialize_all(data))
    if len(sketches) != 1:
        raise _damaged(f"holds {len(sketches)} sketches, expected one")
    return sketches[0]


def deserialize_all(data: bytes) -> Iterator[Sketch]:
    """Read sketches that were written one behind the other.

    Raises:
        CalibrationError: As :func:`deserialize`.
    """
    rest = memoryview(data)
    while rest:
        size = _checked_size(rest)
        sketch = _read(rest[:size])
        _check(sketch)
        yield sketch
        rest = rest[size:]


def _checked_size(data: memoryview) -> int:
    """Size of the first sketch, whose checksum is right."""
    if len(data) < _HEADER.size + _CHECKSUM.size:
        raise _damaged(f"is cut off: {len(data)} bytes are left, a header has {_HEADER.size}")
    magic, version, _, size = _START.unpack_from(data)
    if magic != _MAGIC:
        raise _damaged(f"begins with {magic!r}, expected {_MAGIC!r}")
    if version != _VERSION:
        raise CalibrationError(
            f"The serialized sketch has version {version}, expected {_VERSION}.",
            hint="Read it with the release that wrote it, or calibrate again.",
            version=version,
        )
    if not _HEADER.size + _CHECKSUM.size <= size <= len(data):
        raise _damaged(f"is cut off: it has {size} bytes, {len(data)} are left")
    if zlib.crc32(data[: size - _CHECKSUM.size]) != _CHECKSUM.unpack_from(data, size - _CHECKSUM.size)[0]:
        raise _damaged("does not match its checksum")
    return int(size)


def _read(data: memoryview) -> Sketch:
    (
        _, _, flags, size, exponent, count, zeros, nan, positive, negative,
        minimum, maximum, total, total_abs, total_squares, first_bin, bins, counter_bytes, zero, key_bytes,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    if flags & ~_HAS_CHANNELS or zero or counter_bytes not in (1, 2, 4, 8):
        raise _damaged(f"has flags {flags}, a reserved byte of {zero} and counters of {counter_bytes} bytes")
    start = _HEADER.size + key_bytes
    end = start + bins * counter_bytes
    channel_bytes = size - _CHECKSUM.size - end
    if channel_bytes < _CHANNELS.size if flags else channel_bytes != 0:
        raise _damaged(f"claims {bins} counters of {counter_bytes} bytes in {size} bytes")
    try:
        key = bytes(data[_HEADER.size : start]).decode()
    except UnicodeDecodeError as error:
        raise _damaged("has a key that is not UTF-8 text") from error
    return Sketch(
        key, exponent, first_bin, np.frombuffer(data[start:end], f"<u{counter_bytes}").astype(np.uint64), count, zeros,
        nan, positive, negative, minimum + 0.0, maximum + 0.0, total, total_abs, total_squares,
        _read_channels(data[end : size - _CHECKSUM.size]) if flags else None,
    )  # fmt: skip


def _read_channels(data: memoryview) -> ChannelRanges:
    axis, channels = _CHANNELS.unpack_from(data)
    if len(data) != _CHANNELS.size + 8 * channels:
        raise _damaged(f"claims {channels} channels in {len(data)} bytes")
    ranges = np.frombuffer(data[_CHANNELS.size :], "<f4").astype(np.float32)
    if np.isnan(ranges).any():
        raise _damaged("has NaN in the ranges of its channels")
    return ChannelRanges(axis, ranges[:channels] + np.float32(0), ranges[channels:] + np.float32(0))


def _check(sketch: Sketch) -> None:
    """Refuse what is not the sketch of any data.

    A wrong grid would not show later: ranges would only be wrong.
    """
    if not _grid_fits(sketch):
        raise _damaged("contradicts itself: its grid does not fit its range")
    if sum(sketch.counts.tolist()) + sketch.zeros != sketch.count:  # in integers without an end
        raise _damaged("contradicts itself: its counters do not add up")
    if not all(map(math.isfinite, (sketch.total, sketch.total_abs, sketch.total_squares))):
        raise _damaged("contradicts itself: its sums are not finite")
    if sketch.channels is not None and not _channels_fit(sketch.channels, sketch):
        raise _damaged("contradicts itself: the ranges of its channels do not fit its range")


def _grid_fits(sketch: Sketch) -> bool:
    k, first, counts = sketch.exponent, sketch.first_bin, sketch.counts
    low, high = sketch.minimum, sketch.maximum
    if not MIN_EXPONENT <= k <= MAX_EXPONENT or not -BINS_PER_SIDE <= first <= BINS_PER_SIDE - max(counts.size, 1):
        return False
    if not sketch.count:
        return (k, first, counts.size, low, high) == (MIN_EXPONENT, 0, 0, math.inf, -math.inf)
    if not -math.inf < low <= high < math.inf or k != grid_exponent(sketch.absmax):
        return False
    if not low <= 0 <= high if sketch.zeros else 0 in (low, high):
        return False
    if not counts.size:
        return low == high == 0 and first == 0
    # 0 belongs to no bin: where it is an extreme, the counters lie on the other side of it.
    last = first + counts.size - 1
    first_fits = first == _bin_of(low, k) if low else first >= 0
    last_fits = last == _bin_of(high, k) if high else last < 0
    return bool(first_fits and last_fits and counts[0] and counts[-1])


def _bin_of(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _channels_fit(channels: ChannelRanges, sketch: Sketch) -> bool:
    low, high = channels.minimum, channels.maximum
    seen = np.isfinite(low) & np.isfinite(high) & (low <= high)
    blank = (low == np.inf) & (high == -np.inf)
    whole = (float(low.min(initial=np.inf)), float(high.max(initial=-np.inf)))
    return bool((seen | blank).all()) and whole == (sketch.minimum, sketch.maximum)


def _damaged(what: str) -> CalibrationError:
    return CalibrationError(
        f"The serialized sketch {what}.", hint="Calibrate again; the file or the message was damaged or cut off."
    )
