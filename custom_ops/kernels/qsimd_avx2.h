// int8 products in 256-bit registers. AVX2 alone is exact too: bytes are widened to 16 bits, even and odd ones apart,
// since vpmaddubsw would saturate. Interface: see qtile-inl.h.
#pragma once

#include "qsimd_memory.h"
#include "simd_avx2.h"

namespace ort_quant::simd {
namespace {

// What does not depend on how products are formed.
struct Avx2Bytes : PartialFloats<Avx2> {
  using Floats = Avx2;
  using Sums = Avx2Ints;
  static constexpr bool kSignedActivations = false;

  static Sums load_sums(const std::int32_t* source) { return Sums::load(source); }
  static void store_sums(Sums sums, std::int32_t* target) { sums.store(target); }
  static Sums broadcast_sum(std::int32_t value) { return Sums::broadcast(value); }
  static Floats to_floats(Sums sums) { return {_mm256_cvtepi32_ps(sums.low), _mm256_cvtepi32_ps(sums.high)}; }
  static Sums round(Floats a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
  static Floats divide(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static Floats where_negative(Floats a, Floats yes, Floats no) {
    const __m256 zero = _mm256_setzero_ps();
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, zero, _CMP_LT_OQ)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, zero, _CMP_LT_OQ))};
  }
  static Floats where_nan(Floats a, Floats instead) {
    return {_mm256_blendv_ps(a.low, instead.low, _mm256_cmp_ps(a.low, a.low, _CMP_UNORD_Q)),
            _mm256_blendv_ps(a.high, instead.high, _mm256_cmp_ps(a.high, a.high, _CMP_UNORD_Q))};
  }
  // codes + shift, saturated to bytes; the first `count` of them.
  template <std::size_t Width>
  static void store_codes(const Sums (&codes)[Width], Sums shift, std::uint8_t* y, std::size_t count) {
    const __m256i shifts = _mm256_packs_epi32(shift.low, shift.low);
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Width; ++v) {
      const __m256i words = _mm256_adds_epi16(_mm256_packs_epi32(codes[v].low, codes[v].high), shifts);
      const __m128i bytes = bytes_of(words);
      if ((v + 1) * 16 <= count) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y + v * 16), bytes);
      } else {
        std::uint8_t padded[16];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(padded), bytes);
        for (std::size_t i = v * 16; i < count; ++i) y[i] = padded[i - v * 16];
      }
    }
  }

 private:
  // Of the words in the order of _mm256_packs_epi32.
  static __m128i bytes_of(__m256i words) {
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    return _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  }
};

struct Avx2Widening : Avx2Bytes {
  static constexpr std::size_t kMostRows[] = {4, 0, 0, 0};

  struct Activation {  // 16-bit pairs: bytes 0 and 2, bytes 1 and 3
    __m256i even;
    __m256i odd;
  };
  struct Weights {
    __m256i low;
    __m256i high;
  };

  static Activation broadcast(const std::uint8_t* four) {
    const __m256i bytes = _mm256_set1_epi32(load_four(four));
    return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(bytes, 8)};
  }
  static Weights load_weights(const std::int8_t* weights) {
    const auto* packed = reinterpret_cast<const __m256i*>(weights);
    return {_mm256_loadu_si256(packed), _mm256_loadu_si256(packed + 1)};
  }
  static Sums dot(Sums sum, Activation a, Weights w) {
    return {_mm256_add_epi32(sum.low, products(a, w.low)), _mm256_add_epi32(sum.high, products(a, w.high))};
  }

 private:
  static __m256i products(Activation a, __m256i weights) {
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8);
    const __m256i odd = _mm256_srai_epi16(weights, 8);
    return _mm256_add_epi32(_mm256_madd_epi16(a.even, even), _mm256_madd_epi16(a.odd, odd));
  }
};

}  // namespace
}  // namespace ort_quant::simd
