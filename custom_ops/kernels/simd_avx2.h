// 16 float lanes in two AVX2 registers; F16C converts binary16. Same interface as simd_baseline.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "float16.h"

namespace ort_quant::simd {
namespace {

struct Avx2 {
  static constexpr std::size_t kLanes = 16;

  __m256 low;
  __m256 high;

  static Avx2 broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Avx2 load(const float* source) { return {_mm256_loadu_ps(source), _mm256_loadu_ps(source + 8)}; }
  static Avx2 load(const Half* source) {
    const auto* packed = reinterpret_cast<const __m128i*>(source);
    return {_mm256_cvtph_ps(_mm_loadu_si128(packed)), _mm256_cvtph_ps(_mm_loadu_si128(packed + 1))};
  }
  void store(float* target) const {
    _mm256_storeu_ps(target, low);
    _mm256_storeu_ps(target + 8, high);
  }
  void store(Half* target) const {
    auto* packed = reinterpret_cast<__m128i*>(target);
    _mm_storeu_si128(packed, _mm256_cvtps_ph(low, kNearestEven));
    _mm_storeu_si128(packed + 1, _mm256_cvtps_ph(high, kNearestEven));
  }
  // Lanes must be integers of the int8 range.
  void store(std::int8_t* target) const {
    const __m256i words = _mm256_packs_epi32(_mm256_cvttps_epi32(low), _mm256_cvttps_epi32(high));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), bytes);
  }

  friend Avx2 operator+(Avx2 a, Avx2 b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  friend Avx2 operator-(Avx2 a, Avx2 b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  friend Avx2 operator*(Avx2 a, Avx2 b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  // A NaN in b comes through.
  friend Avx2 max(Avx2 a, Avx2 b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  friend Avx2 min(Avx2 a, Avx2 b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
  friend Avx2 abs(Avx2 a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
  }
  friend Avx2 rint(Avx2 a) {
    return {_mm256_round_ps(a.low, kNearestEven | _MM_FROUND_NO_EXC),
            _mm256_round_ps(a.high, kNearestEven | _MM_FROUND_NO_EXC)};
  }
  friend Avx2 floor(Avx2 a) { return {_mm256_floor_ps(a.low), _mm256_floor_ps(a.high)}; }
  friend Avx2 to_half_precision(Avx2 a) {
    return {_mm256_cvtph_ps(_mm256_cvtps_ph(a.low, kNearestEven)),
            _mm256_cvtph_ps(_mm256_cvtps_ph(a.high, kNearestEven))};
  }
  friend Avx2 zero_nan(Avx2 a) {
    return {_mm256_and_ps(a.low, _mm256_cmp_ps(a.low, a.low, _CMP_ORD_Q)),
            _mm256_and_ps(a.high, _mm256_cmp_ps(a.high, a.high, _CMP_ORD_Q))};
  }
  friend bool all_finite(Avx2 a) {
    const Avx2 magnitude = abs(a);
    const __m256 largest = _mm256_set1_ps(__FLT_MAX__);
    const __m256 finite = _mm256_and_ps(_mm256_cmp_ps(magnitude.low, largest, _CMP_LE_OQ),
                                        _mm256_cmp_ps(magnitude.high, largest, _CMP_LE_OQ));
    return _mm256_movemask_ps(finite) == 0xFF;
  }

 private:
  static constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT;
};

}  // namespace
}  // namespace ort_quant::simd
