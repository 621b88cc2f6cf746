// How the int8 instruction sets reach memory, where they do it alike. The rules of qtile-inl.h hold here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ort_quant::simd {
namespace {

inline std::int32_t load_four(const std::uint8_t* bytes) {
  std::int32_t four;
  std::memcpy(&four, bytes, sizeof four);
  return four;
}

// Parts of 16 floats, for instruction sets without masks.
template <class Floats>
struct PartialFloats {
  // The first `count` of 16 values; nothing beyond them is touched. Other loaded lanes are 0.
  static Floats load_first(const float* source, std::size_t count) {
    if (count == 16) return Floats::load(source);
    float lanes[16] = {};
    std::memcpy(lanes, source, count * sizeof *source);
    return Floats::load(lanes);
  }
  static void store_first(Floats a, float* target, std::size_t count) {
    if (count == 16) return a.store(target);
    float lanes[16];
    a.store(lanes);
    std::memcpy(target, lanes, count * sizeof *target);
  }
};

}  // namespace
}  // namespace ort_quant::simd
