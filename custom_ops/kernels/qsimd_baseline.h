// int8 products on whatever 128-bit vectors the baseline compiler target has. Interface: see qtile-inl.h.
#pragma once

#include "qsimd_memory.h"
#include "simd_baseline.h"

namespace ort_quant::simd {
namespace {

struct BaselineBytes : PartialFloats<Baseline> {
  using Floats = Baseline;
  using Sums = BaselineInts;
  static constexpr bool kSignedActivations = false;
  static constexpr std::size_t kMostRows[] = {2, 0, 0, 0};

  struct Activation {
    std::int32_t bytes[4];
  };
  struct Weights {
    const std::int8_t* bytes;  // [16][4]
  };

  static Sums load_sums(const std::int32_t* source) { return Sums::load(source); }
  static void store_sums(Sums sums, std::int32_t* target) { sums.store(target); }
  static Sums broadcast_sum(std::int32_t value) { return Sums::broadcast(value); }
  static Floats to_floats(Sums sums) {
    return Floats::map([&](int i) { return __builtin_convertvector(sums.part[i], Floats::Floats); });
  }
  // Within the int32 range; below it, the least integer.
  static Sums round(Floats a) { return truncate(rint(max(Floats::broadcast(-0x1p31f), a))); }
  static Floats divide(Floats a, Floats b) {
    return Floats::map([&](int i) { return a.part[i] / b.part[i]; });
  }
  static Floats where_negative(Floats a, Floats yes, Floats no) {
    return Floats::map([&](int i) { return Floats::select(a.part[i] < 0.0f, yes.part[i], no.part[i]); });
  }
  static Floats where_nan(Floats a, Floats instead) {
    return Floats::map([&](int i) { return Floats::select(a.part[i] == a.part[i], a.part[i], instead.part[i]); });
  }

  static Activation broadcast(const std::uint8_t* four) { return {{four[0], four[1], four[2], four[3]}}; }
  static Weights load_weights(const std::int8_t* weights) { return {weights}; }
  static Sums dot(Sums sum, Activation a, Weights w) {
    return Sums::map([&](int i) {
      Sums::Part part = sum.part[i];
      for (int lane = 0; lane < 4; ++lane) {
        const std::int8_t* four = w.bytes + 4 * (4 * i + lane);
        part[lane] = static_cast<std::int32_t>(static_cast<std::uint32_t>(part[lane]) +
                                               static_cast<std::uint32_t>(a.bytes[0] * four[0] + a.bytes[1] * four[1] +
                                                                          a.bytes[2] * four[2] + a.bytes[3] * four[3]));
      }
      return part;
    });
  }

  template <std::size_t Width>
  static void store_codes(const Sums (&codes)[Width], Sums shift, std::uint8_t* y, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t code = static_cast<std::int64_t>(codes[i / 16].part[i % 16 / 4][i % 4]) + shift.part[0][0];
      y[i] = static_cast<std::uint8_t>(code < 0 ? 0 : code > 255 ? 255 : code);
    }
  }
};

}  // namespace
}  // namespace ort_quant::simd
