// 16 float lanes on whatever 128-bit vectors the baseline compiler target has (SSE2, NEON), through the vector
// extension of GCC and Clang. Same interface as simd_avx2.h and simd_avx512.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "float16.h"

namespace ort_quant::simd {
namespace {

struct BaselineInts {
  typedef std::int32_t Part __attribute__((vector_size(16)));

  Part part[4];

  template <class F>
  static BaselineInts map(F&& f) {
    return {{f(0), f(1), f(2), f(3)}};
  }

  static BaselineInts broadcast(std::int32_t value) {
    const Part all = {value, value, value, value};
    return {{all, all, all, all}};
  }
  static BaselineInts load(const std::int32_t* source) {
    BaselineInts v;
    std::memcpy(&v, source, sizeof v);
    return v;
  }
  void store(std::int32_t* target) const { std::memcpy(target, this, sizeof *this); }

  friend BaselineInts operator+(BaselineInts a, BaselineInts b) {
    return map([&](int i) { return a.part[i] + b.part[i]; });
  }
  friend BaselineInts operator&(BaselineInts a, BaselineInts b) {
    return map([&](int i) { return a.part[i] & b.part[i]; });
  }
  friend BaselineInts operator^(BaselineInts a, BaselineInts b) {
    return map([&](int i) { return a.part[i] ^ b.part[i]; });
  }
  friend BaselineInts select_less(BaselineInts a, BaselineInts b, BaselineInts yes, BaselineInts no) {
    return map([&](int i) {
      const Part less = a.part[i] < b.part[i];
      return (less & yes.part[i]) | (~less & no.part[i]);
    });
  }
  friend BaselineInts max(BaselineInts a, BaselineInts b) { return select_less(a, b, b, a); }
  friend BaselineInts min(BaselineInts a, BaselineInts b) { return select_less(a, b, a, b); }
  friend BaselineInts sign(BaselineInts a) {
    return map([&](int i) { return a.part[i] >> 31; });
  }
  friend std::size_t store_where(BaselineInts condition, BaselineInts a, std::int32_t* target) {
    std::size_t count = 0;
#pragma GCC unroll 16
    for (int lane = 0; lane < 16; ++lane) {
      target[count] = a.part[lane / 4][lane % 4];
      count += condition.part[lane / 4][lane % 4] != 0;
    }
    return count;
  }
};

struct BaselineDoubles {
  typedef double Part __attribute__((vector_size(16)));
  typedef std::int64_t PartBits __attribute__((vector_size(16)));

  Part part[4];

  template <class F>
  static BaselineDoubles map(F&& f) {
    return {{f(0), f(1), f(2), f(3)}};
  }

  static BaselineDoubles zero() { return {}; }
  void store(double* target) const { std::memcpy(target, this, sizeof *this); }

  friend BaselineDoubles operator+(BaselineDoubles a, BaselineDoubles b) {
    return map([&](int i) { return a.part[i] + b.part[i]; });
  }
  friend BaselineDoubles abs(BaselineDoubles a) {
    return map([&](int i) { return reinterpret_cast<Part>(reinterpret_cast<PartBits>(a.part[i]) & INT64_MAX); });
  }
  friend BaselineDoubles add_square(BaselineDoubles sum, BaselineDoubles a) {
    return map([&](int i) { return sum.part[i] + a.part[i] * a.part[i]; });
  }
};

struct Baseline {
  static constexpr std::size_t kLanes = 16;
  using Ints = BaselineInts;
  using Doubles = BaselineDoubles;
  typedef float Floats __attribute__((vector_size(16)));
  typedef std::int32_t Masks __attribute__((vector_size(16)));
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

  static Floats select(Masks mask, Floats yes, Floats no) {
    return reinterpret_cast<Floats>((mask & reinterpret_cast<Masks>(yes)) | (~mask & reinterpret_cast<Masks>(no)));
  }
  // A NaN in b comes through.
  friend Baseline max(Baseline a, Baseline b) {
    return map([&](int i) { return select(a.part[i] > b.part[i], a.part[i], b.part[i]); });
  }
  friend Baseline min(Baseline a, Baseline b) {
    return map([&](int i) { return select(a.part[i] < b.part[i], a.part[i], b.part[i]); });
  }
  friend Baseline abs(Baseline a) {
    return map([&](int i) { return reinterpret_cast<Floats>(reinterpret_cast<Masks>(a.part[i]) & 0x7FFFFFFF); });
  }
  friend Baseline rint(Baseline a) {
    return map([&](int i) {
      // Adding 2^23 leaves no room for a fraction, so the adder rounds (half to even); from 2^23 on all is integer.
      const Masks sign = reinterpret_cast<Masks>(a.part[i]) & INT32_MIN;
      const Floats magnitude = reinterpret_cast<Floats>(reinterpret_cast<Masks>(a.part[i]) & 0x7FFFFFFF);
      const Floats rounded = (magnitude + 0x1p23f) - 0x1p23f;
      const Floats with_sign = reinterpret_cast<Floats>(reinterpret_cast<Masks>(rounded) | sign);
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
    Masks finite = magnitude.part[0] <= __FLT_MAX__;
    for (int i = 1; i < kParts; ++i) finite &= magnitude.part[i] <= __FLT_MAX__;
    return (finite[0] & finite[1] & finite[2] & finite[3]) != 0;
  }

  friend Ints bits(Baseline a) {
    return Ints::map([&](int i) { return reinterpret_cast<Masks>(a.part[i]); });
  }
  static Baseline from_bits(Ints a) {
    return map([&](int i) { return reinterpret_cast<Floats>(a.part[i]); });
  }
  friend Ints truncate(Baseline a) {
    return Ints::map([&](int i) { return __builtin_convertvector(a.part[i], Masks); });
  }
  friend Doubles widen_low(Baseline a) { return widen(a, 0); }
  friend Doubles widen_high(Baseline a) { return widen(a, 2); }

 private:
  static Doubles widen(Baseline a, int first) {
    return Doubles::map([&](int i) {
      const Floats four = a.part[first + i / 2];
      const int lane = i % 2 * 2;
      return Doubles::Part{static_cast<double>(four[lane]), static_cast<double>(four[lane + 1])};
    });
  }
};

}  // namespace
}  // namespace ort_quant::simd
