// 16 float lanes on whatever 128-bit vectors the baseline compiler target has (SSE2, NEON), through the vector
// extension of GCC and Clang. Same interface as simd_avx2.h and simd_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "float16.h"

namespace ort_quant::simd {
namespace {

struct Baseline {
  static constexpr std::size_t kLanes = 16;
  typedef float Floats __attribute__((vector_size(16)));
  typedef std::int32_t Ints __attribute__((vector_size(16)));
  static constexpr int kParts = 4;

  Floats part[kParts];

  template <class F>
  static Baseline map(F&& f) {
    return {{f(0), f(1), f(2), f(3)}};
  }

  static Baseline broadcast(float value) {
    const Floats all = {value, value, value, value};
    return {{all, all, all, all}};
  }
  static Baseline load(const float* source) {
    Baseline v;
    std::memcpy(&v, source, sizeof v);
    return v;
  }
  static Baseline load(const Half* source) {
    float lanes[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = half_to_float(source[i]);
    return load(lanes);
  }
  void store(float* target) const { std::memcpy(target, this, sizeof *this); }
  void store(Half* target) const {
    float lanes[kLanes];
    store(lanes);
    for (std::size_t i = 0; i < kLanes; ++i) target[i] = float_to_half(lanes[i]);
  }
  // Lanes must be integers of the int8 range.
  void store(std::int8_t* target) const {
    float lanes[kLanes];
    store(lanes);
    for (std::size_t i = 0; i < kLanes; ++i) target[i] = static_cast<std::int8_t>(lanes[i]);
  }

  friend Baseline operator+(Baseline a, Baseline b) {
    return map([&](int i) { return a.part[i] + b.part[i]; });
  }
  friend Baseline operator-(Baseline a, Baseline b) {
    return map([&](int i) { return a.part[i] - b.part[i]; });
  }
  friend Baseline operator*(Baseline a, Baseline b) {
    return map([&](int i) { return a.part[i] * b.part[i]; });
  }

  static Floats select(Ints mask, Floats yes, Floats no) {
    return reinterpret_cast<Floats>((mask & reinterpret_cast<Ints>(yes)) | (~mask & reinterpret_cast<Ints>(no)));
  }
  // A NaN in b comes through.
  friend Baseline max(Baseline a, Baseline b) {
    return map([&](int i) { return select(a.part[i] > b.part[i], a.part[i], b.part[i]); });
  }
  friend Baseline min(Baseline a, Baseline b) {
    return map([&](int i) { return select(a.part[i] < b.part[i], a.part[i], b.part[i]); });
  }
  friend Baseline abs(Baseline a) {
    return map([&](int i) { return reinterpret_cast<Floats>(reinterpret_cast<Ints>(a.part[i]) & 0x7FFFFFFF); });
  }
  friend Baseline rint(Baseline a) {
    return map([&](int i) {
      // Adding 2^23 leaves no room for a fraction, so the adder rounds (half to even); from 2^23 on all is integer.
      const Ints sign = reinterpret_cast<Ints>(a.part[i]) & INT32_MIN;
      const Floats magnitude = reinterpret_cast<Floats>(reinterpret_cast<Ints>(a.part[i]) & 0x7FFFFFFF);
      const Floats rounded = (magnitude + 0x1p23f) - 0x1p23f;
      const Floats with_sign = reinterpret_cast<Floats>(reinterpret_cast<Ints>(rounded) | sign);
      return select(magnitude < 0x1p23f, with_sign, a.part[i]);
    });
  }
  friend Baseline floor(Baseline a) {
    const Baseline nearest = rint(a);
    const Baseline below = nearest - broadcast(1.0f);
    return map([&](int i) { return select(nearest.part[i] > a.part[i], below.part[i], nearest.part[i]); });
  }
  friend Baseline to_half_precision(Baseline a) {
    float lanes[kLanes];
    a.store(lanes);
    for (float& lane : lanes) lane = round_to_half(lane);
    return load(lanes);
  }
  friend Baseline zero_nan(Baseline a) {
    return map([&](int i) { return select(a.part[i] == a.part[i], a.part[i], Floats{}); });
  }
  friend bool all_finite(Baseline a) {
    const Baseline magnitude = abs(a);
    Ints finite = magnitude.part[0] <= __FLT_MAX__;
    for (int i = 1; i < kParts; ++i) finite &= magnitude.part[i] <= __FLT_MAX__;
    return (finite[0] & finite[1] & finite[2] & finite[3]) != 0;
  }
};

}  // namespace
}  // namespace ort_quant::simd
