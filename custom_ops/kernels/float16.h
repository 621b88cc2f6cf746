// IEEE 754 binary16 in software: bit-exact with the F16C instructions (rounding to nearest even, NaN made quiet,
// its upper payload kept), so every instruction set gives the same fp16 tensors.
#pragma once

#include <cstdint>
#include <cstring>

namespace ort_quant {

// One binary16 value as stored in a tensor.
struct Half {
  std::uint16_t bits;
};

inline std::uint32_t float_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Exact: every binary16 value is a float.
inline float half_to_float(Half half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (half.bits >> 10) & 0x1Fu;
  const std::uint32_t mantissa = half.bits & 0x3FFu;
  if (exponent == 0x1F) {
    const std::uint32_t quiet = mantissa == 0 ? 0u : 0x400000u;
    return float_from_bits(sign | 0x7F800000u | quiet | (mantissa << 13));
  }
  if (exponent == 0) {  // zero or subnormal: mantissa · 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return float_from_bits(sign | float_bits(magnitude));
  }
  return float_from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// Rounds to nearest even; magnitudes from 65520 on become infinity.
inline Half float_to_half(float value) {
  const std::uint32_t bits = float_bits(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return {static_cast<std::uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu))};
  }
  if (magnitude >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};
  if (magnitude < 0x38800000u) {
    // Subnormal result: adding 0.5 aligns the value so that the float adder does the rounding at 2^-24.
    const float aligned = float_from_bits(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (float_bits(aligned) - 0x3F000000u))};
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  const std::uint32_t rounded = magnitude - 0x38000000u + 0xFFFu + odd;
  return {static_cast<std::uint16_t>(sign | (rounded >> 13))};
}

inline float round_to_half(float value) { return half_to_float(float_to_half(value)); }

}  // namespace ort_quant
