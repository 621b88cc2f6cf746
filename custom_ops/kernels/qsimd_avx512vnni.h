// int8 products in 512-bit registers with AVX-512 VNNI. Interface: see qtile-inl.h.
#pragma once

#include "qsimd_avx512.h"

namespace ort_quant::simd {
namespace {

struct Avx512Vnni : Avx512Bytes {
  static constexpr std::size_t kMostRows[] = {12, 12, 8, 6};

  using Activation = __m512i;
  using Weights = __m512i;

  static Activation broadcast(const std::uint8_t* four) { return _mm512_set1_epi32(load_four(four)); }
  static Weights load_weights(const std::int8_t* weights) { return _mm512_loadu_si512(weights); }
  static Sums dot(Sums sum, Activation a, Weights w) { return {_mm512_dpbusd_epi32(sum.lanes, a, w)}; }
};

}  // namespace
}  // namespace ort_quant::simd
