// The ends of layer_output.h on the registers of bytes_*.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_output.h"

namespace ort_quant {
namespace {

// Four registers, interleaved byte by byte.
template <class V>
struct Quad {
  typename V::Bytes at[4];

  static Quad interleave(typename V::Bytes a, typename V::Bytes b, typename V::Bytes c, typename V::Bytes d) {
    const auto low_ab = V::unpack_low8(a, b), high_ab = V::unpack_high8(a, b);
    const auto low_cd = V::unpack_low8(c, d), high_cd = V::unpack_high8(c, d);
    return {{V::unpack_low16(low_ab, low_cd), V::unpack_high16(low_ab, low_cd), V::unpack_low16(high_ab, high_cd),
             V::unpack_high16(high_ab, high_cd)}};
  }
  void store(std::uint8_t* target) const {
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) V::store_bytes(target + j * V::kBytes, at[j]);
  }
};

// clip(rint(min(max(y, lowest), highest)·scale) + offset, −128, 127) as one clip: multiplying by scale > 0 keeps order
// and the offset is a whole number, so min(max(y·scale, low), high) rounds to the same code.
template <class V>
struct ByteEnd {
  typename V::Floats scale;
  typename V::Floats low;
  typename V::Floats high;
  typename V::Floats code_zero;
  std::int32_t shift;  // narrow() the codes with it

  static ByteEnd of(const ByteOutput& bytes) {
    const auto offset = static_cast<float>(bytes.quantizer.offset);
    const float low = bytes.lowest * bytes.quantizer.scale;
    const float high = bytes.highest * bytes.quantizer.scale;
    return {V::splat(bytes.quantizer.scale), V::splat(low > -128.0f - offset ? low : -128.0f - offset),
            V::splat(high < 127.0f - offset ? high : 127.0f - offset), V::splat(-offset),
            bytes.quantizer.offset + 128};
  }

  // Where narrow()'s saturation does for the clip.
  typename V::Ints saturating_code(typename V::Floats y) const { return V::round(V::mul(y, scale)); }
  // Where y is not NaN.
  typename V::Ints code(typename V::Floats y) const { return V::round(clipped(V::mul(y, scale))); }
  typename V::Ints code_or_nan(typename V::Floats y) const {
    return V::round(V::replace_nan(clipped(V::mul(y, scale)), code_zero));
  }

 private:
  typename V::Floats clipped(typename V::Floats t) const { return V::min(high, V::max(low, t)); }
};

// Channels of one position: float32 results in the order of interleaved bytes.
template <class V>
struct ResultBlock {
  typename V::Floats at[4];

  // The first `count` channels, of which `repeated` have been stored before.
  void store(const LayerOutput& output, const ByteEnd<V>& end, std::size_t position, std::size_t channels,
             std::size_t first, std::size_t count, std::size_t repeated) const {
    if (output.pieces.take != nullptr) return give(output.pieces, position, first, count, repeated);
    const auto codes = V::narrow(end.code_or_nan(at[0]), end.code_or_nan(at[1]), end.code_or_nan(at[2]),
                                 end.code_or_nan(at[3]), end.shift);
    std::uint8_t* target = output.bytes.y + position * channels + first;
    if (count == V::kBytes) return V::store_bytes(target, codes);
    V::store_some(target, codes, count);
  }

 private:
  void give(const PieceOutput& pieces, std::size_t position, std::size_t first, std::size_t count,
            std::size_t repeated) const {
    alignas(64) std::uint8_t bytes[4][V::kBytes];
    for (std::size_t j = 0; j < 4; ++j) V::store(bytes[j], at[j]);
    float values[2 * kLargestPiece];
    for (std::size_t c = 0; c < V::kBytes; c += 4) __builtin_memcpy(values + c, bytes[c / 4 % 4] + c / 16 * 16, 16);
    pieces.take(pieces.context, values + repeated, position, first + repeated, count - repeated);
  }
};

// Channels [0, channels) in registers: f(first, count, repeated); the last register reaches back where it can.
template <class V, class F>
void for_channel_blocks(std::size_t channels, F f) {
  std::size_t done = 0;
  for (; done + V::kBytes <= channels; done += V::kBytes) f(done, V::kBytes, std::size_t{0});
  if (done == channels) return;
  if (channels < V::kBytes) return f(std::size_t{0}, channels, std::size_t{0});
  f(channels - V::kBytes, V::kBytes, V::kBytes - (channels - done));
}

template <class V>
typename V::Bytes load_block(const std::uint8_t* source, std::size_t count) {
  return count == V::kBytes ? V::load_bytes(source) : V::load_some(source, count);
}

}  // namespace
}  // namespace ort_quant
