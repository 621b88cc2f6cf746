// The packed uint64 of AscendDequant: bits 31..0 the float32 scale, bits 39..32 the shift N, bits 47..40 offset_w.
#pragma once

#include <cstdint>

#include "float16.h"

namespace ort_quant {

struct DeqScale {
  float scale;
  int shift;
};

inline DeqScale unpack_deq_scale(std::uint64_t packed) {
  return {float_from_bits(static_cast<std::uint32_t>(packed & 0xFFFFFFFFu)), static_cast<int>((packed >> 32) & 0xFFu)};
}

inline std::uint64_t pack_deq_scale(DeqScale value) {
  return (static_cast<std::uint64_t>(value.shift & 0xFF) << 32) | float_bits(value.scale);
}

// FORCE_FP16_QUANT keeps 19 bits of the scale (sign, exponent, 10 bits of mantissa), cut off, not rounded.
inline float truncate_deq_scale(float scale) { return float_from_bits(float_bits(scale) & 0xFFFFE000u); }

// FORCE_FP16_QUANT takes the quantizer's scale in binary16; outside its normal range as the square of a rounded root.
float half_precision_scale(float scale);

}  // namespace ort_quant
