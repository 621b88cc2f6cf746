// int8 products with NEON's dot product of signed bytes: activations enter as u − 128. Interface: see qtile-inl.h.
#pragma once

#include <arm_neon.h>

#include "qsimd_baseline.h"

namespace ort_quant::simd {
namespace {

struct NeonDot : BaselineBytes {
  static constexpr bool kSignedActivations = true;
  static constexpr std::size_t kMostRows[] = {6, 0, 0, 0};

  using Activation = int8x16_t;
  struct Weights {
    int8x16_t parts[4];
  };

  static Activation broadcast(const std::uint8_t* bytes) {
    std::uint32_t four;
    std::memcpy(&four, bytes, sizeof four);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
  }
  static Weights load_weights(const std::int8_t* weights) {
    return {{vld1q_s8(weights), vld1q_s8(weights + 16), vld1q_s8(weights + 32), vld1q_s8(weights + 48)}};
  }
  static Sums dot(Sums sum, Activation a, const Weights& w) {
    return Sums::map([&](int i) {
      return reinterpret_cast<Sums::Part>(vdotq_s32(reinterpret_cast<int32x4_t>(sum.part[i]), w.parts[i], a));
    });
  }
};

}  // namespace
}  // namespace ort_quant::simd
