// 16 float lanes in one AVX-512 register. Same interface as simd_baseline.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "float16.h"

namespace ort_quant::simd {
namespace {

struct Avx512Ints {
  __m512i lanes;

  static Avx512Ints broadcast(std::int32_t value) { return {_mm512_set1_epi32(value)}; }
  static Avx512Ints load(const std::int32_t* source) { return {_mm512_loadu_si512(source)}; }
  void store(std::int32_t* target) const { _mm512_storeu_si512(target, lanes); }

  friend Avx512Ints operator+(Avx512Ints a, Avx512Ints b) { return {_mm512_add_epi32(a.lanes, b.lanes)}; }
  friend Avx512Ints operator&(Avx512Ints a, Avx512Ints b) { return {_mm512_and_si512(a.lanes, b.lanes)}; }
  friend Avx512Ints operator^(Avx512Ints a, Avx512Ints b) { return {_mm512_xor_si512(a.lanes, b.lanes)}; }
  friend Avx512Ints max(Avx512Ints a, Avx512Ints b) { return {_mm512_max_epi32(a.lanes, b.lanes)}; }
  friend Avx512Ints min(Avx512Ints a, Avx512Ints b) { return {_mm512_min_epi32(a.lanes, b.lanes)}; }
  // −1 where negative, else 0.
  friend Avx512Ints sign(Avx512Ints a) { return {_mm512_srai_epi32(a.lanes, 31)}; }
  // a < b ? yes : no
  friend Avx512Ints select_less(Avx512Ints a, Avx512Ints b, Avx512Ints yes, Avx512Ints no) {
    return {_mm512_mask_mov_epi32(no.lanes, _mm512_cmplt_epi32_mask(a.lanes, b.lanes), yes.lanes)};
  }
  // Stores the lanes whose condition is not 0, close together, and returns how many; may overwrite 16 places.
  friend std::size_t store_where(Avx512Ints condition, Avx512Ints a, std::int32_t* target) {
    const __mmask16 mask = _mm512_test_epi32_mask(condition.lanes, condition.lanes);
    _mm512_storeu_si512(target, _mm512_maskz_compress_epi32(mask, a.lanes));
    return static_cast<std::size_t>(__builtin_popcount(mask));
  }
};

struct Avx512Doubles {
  __m512d lanes;

  static Avx512Doubles zero() { return {_mm512_setzero_pd()}; }
  void store(double* target) const { _mm512_storeu_pd(target, lanes); }

  friend Avx512Doubles operator+(Avx512Doubles a, Avx512Doubles b) { return {_mm512_add_pd(a.lanes, b.lanes)}; }
  friend Avx512Doubles abs(Avx512Doubles a) { return {_mm512_abs_pd(a.lanes)}; }
  // sum + a², the square of a float: exact, so fused or not is the same.
  friend Avx512Doubles add_square(Avx512Doubles sum, Avx512Doubles a) {
    return {_mm512_fmadd_pd(a.lanes, a.lanes, sum.lanes)};
  }
};

struct Avx512 {
  static constexpr std::size_t kLanes = 16;
  using Ints = Avx512Ints;
  using Doubles = Avx512Doubles;

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

  friend Ints bits(Avx512 a) { return {_mm512_castps_si512(a.lanes)}; }
  static Avx512 from_bits(Ints a) { return {_mm512_castsi512_ps(a.lanes)}; }
  friend Ints truncate(Avx512 a) { return {_mm512_cvttps_epi32(a.lanes)}; }
  friend Doubles widen_low(Avx512 a) { return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.lanes))}; }
  friend Doubles widen_high(Avx512 a) {
    const __m256d high = _mm512_extractf64x4_pd(_mm512_castps_pd(a.lanes), 1);
    return {_mm512_cvtps_pd(_mm256_castpd_ps(high))};
  }

 private:
  static constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT;
};

}  // namespace
}  // namespace ort_quant::simd
