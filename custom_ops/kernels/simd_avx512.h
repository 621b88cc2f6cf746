// 16 float lanes in one AVX-512 register. Same interface as simd_baseline.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "float16.h"

namespace ort_quant::simd {
namespace {

struct Avx512 {
  static constexpr std::size_t kLanes = 16;

  __m512 lanes;

  static Avx512 broadcast(float value) { return {_mm512_set1_ps(value)}; }
  static Avx512 load(const float* source) { return {_mm512_loadu_ps(source)}; }
  static Avx512 load(const Half* source) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)))};
  }
  void store(float* target) const { _mm512_storeu_ps(target, lanes); }
  void store(Half* target) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), _mm512_cvtps_ph(lanes, kNearestEven));
  }
  // Lanes must be integers of the int8 range.
  void store(std::int8_t* target) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(lanes)));
  }

  friend Avx512 operator+(Avx512 a, Avx512 b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
  friend Avx512 operator-(Avx512 a, Avx512 b) { return {_mm512_sub_ps(a.lanes, b.lanes)}; }
  friend Avx512 operator*(Avx512 a, Avx512 b) { return {_mm512_mul_ps(a.lanes, b.lanes)}; }
  // A NaN in b comes through.
  friend Avx512 max(Avx512 a, Avx512 b) { return {_mm512_max_ps(a.lanes, b.lanes)}; }
  friend Avx512 min(Avx512 a, Avx512 b) { return {_mm512_min_ps(a.lanes, b.lanes)}; }
  friend Avx512 abs(Avx512 a) { return {_mm512_abs_ps(a.lanes)}; }
  friend Avx512 rint(Avx512 a) { return {_mm512_roundscale_ps(a.lanes, kNearestEven)}; }
  friend Avx512 floor(Avx512 a) { return {_mm512_roundscale_ps(a.lanes, _MM_FROUND_FLOOR)}; }
  friend Avx512 to_half_precision(Avx512 a) { return {_mm512_cvtph_ps(_mm512_cvtps_ph(a.lanes, kNearestEven))}; }
  friend Avx512 zero_nan(Avx512 a) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.lanes, a.lanes, _CMP_ORD_Q), a.lanes)};
  }
  friend bool all_finite(Avx512 a) {
    return _mm512_cmp_ps_mask(_mm512_abs_ps(a.lanes), _mm512_set1_ps(__FLT_MAX__), _CMP_LE_OQ) == 0xFFFF;
  }

 private:
  static constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT;
};

}  // namespace
}  // namespace ort_quant::simd
