// int8 products in 256-bit registers with VNNI: AVX-VNNI (VEX) or AVX-512 VNNI with VL, as the flags of the translation
// unit say; the latter makes the former testable where it is missing. Interface: see qtile-inl.h.
#pragma once

#include "qsimd_avx2.h"

namespace ort_quant::simd {
namespace {

#ifdef __AVX512VNNI__
#define ORT_QUANT_DPBUSD_256 _mm256_dpbusd_epi32
#else
#define ORT_QUANT_DPBUSD_256 _mm256_dpbusd_avx_epi32
#endif

struct Vnni256 : Avx2Bytes {
  static constexpr std::size_t kMostRows[] = {6, 0, 0, 0};

  using Activation = __m256i;
  struct Weights {
    __m256i low;
    __m256i high;
  };

  static Activation broadcast(const std::uint8_t* four) { return _mm256_set1_epi32(load_four(four)); }
  static Weights load_weights(const std::int8_t* weights) {
    const auto* packed = reinterpret_cast<const __m256i*>(weights);
    return {_mm256_loadu_si256(packed), _mm256_loadu_si256(packed + 1)};
  }
  static Sums dot(Sums sum, Activation a, Weights w) {
    return {ORT_QUANT_DPBUSD_256(sum.low, a, w.low), ORT_QUANT_DPBUSD_256(sum.high, a, w.high)};
  }
};

}  // namespace
}  // namespace ort_quant::simd
