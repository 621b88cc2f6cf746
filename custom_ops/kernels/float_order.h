// Floats as integers of the same order: −inf < negative < −0 < 0 < positive < inf, a NaN beyond the infinity of its
// sign. Comparing them is exact where the CPU is set to take subnormal floats as zero.
#pragma once

#include <cstdint>

#include "float16.h"

namespace ort_quant {

inline constexpr std::int32_t kOrderedPositiveInfinity = 0x7F800000;
inline constexpr std::int32_t kOrderedNegativeInfinity = -0x7F800001;

// Its own inverse on bit patterns.
inline std::int32_t reorder(std::int32_t bits) { return bits ^ (bits < 0 ? 0x7FFFFFFF : 0); }

inline std::int32_t ordered_bits(float value) { return reorder(static_cast<std::int32_t>(float_bits(value))); }

// −0 comes back as 0.
inline float float_from_ordered(std::int32_t ordered) {
  return float_from_bits(ordered == -1 ? 0u : static_cast<std::uint32_t>(reorder(ordered)));
}

}  // namespace ort_quant
