// 16 float lanes in two AVX2 registers; F16C converts binary16. Same interface as simd_baseline.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "float16.h"

namespace ort_quant::simd {
namespace {

// Byte j of entry m: the position of the j-th set bit of m. What AVX-512 has an instruction for.
struct PackingTable {
  std::uint64_t entries[256] = {};

  constexpr PackingTable() {
    for (unsigned mask = 0; mask < 256; ++mask) {
      unsigned place = 0;
      for (std::uint64_t bit = 0; bit < 8; ++bit) {
        if ((mask >> bit) & 1u) entries[mask] |= bit << (8 * place++);
      }
    }
  }
};
alignas(64) constexpr PackingTable kPacking;

struct Avx2Ints {
  __m256i low;
  __m256i high;

  static Avx2Ints broadcast(std::int32_t value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }
  static Avx2Ints load(const std::int32_t* source) {
    const auto* packed = reinterpret_cast<const __m256i*>(source);
    return {_mm256_loadu_si256(packed), _mm256_loadu_si256(packed + 1)};
  }
  void store(std::int32_t* target) const {
    auto* packed = reinterpret_cast<__m256i*>(target);
    _mm256_storeu_si256(packed, low);
    _mm256_storeu_si256(packed + 1, high);
  }

  friend Avx2Ints operator+(Avx2Ints a, Avx2Ints b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  friend Avx2Ints operator&(Avx2Ints a, Avx2Ints b) {
    return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
  }
  friend Avx2Ints operator^(Avx2Ints a, Avx2Ints b) {
    return {_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)};
  }
  friend Avx2Ints max(Avx2Ints a, Avx2Ints b) {
    return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
  }
  friend Avx2Ints min(Avx2Ints a, Avx2Ints b) {
    return {_mm256_min_epi32(a.low, b.low), _mm256_min_epi32(a.high, b.high)};
  }
  friend Avx2Ints sign(Avx2Ints a) { return {_mm256_srai_epi32(a.low, 31), _mm256_srai_epi32(a.high, 31)}; }
  friend Avx2Ints select_less(Avx2Ints a, Avx2Ints b, Avx2Ints yes, Avx2Ints no) {
    return {_mm256_blendv_epi8(no.low, yes.low, _mm256_cmpgt_epi32(b.low, a.low)),
            _mm256_blendv_epi8(no.high, yes.high, _mm256_cmpgt_epi32(b.high, a.high))};
  }
  friend std::size_t store_where(Avx2Ints condition, Avx2Ints a, std::int32_t* target) {
    const std::size_t count = store_half(condition.low, a.low, target);
    return count + store_half(condition.high, a.high, target + count);
  }

 private:
  static std::size_t store_half(__m256i condition, __m256i a, std::int32_t* target) {
    const __m256i zero = _mm256_cmpeq_epi32(condition, _mm256_setzero_si256());
    const unsigned mask = ~static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(zero))) & 0xFFu;
    const __m128i order = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&kPacking.entries[mask]));
    const __m256i packed = _mm256_permutevar8x32_epi32(a, _mm256_cvtepu8_epi32(order));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), packed);
    return static_cast<std::size_t>(__builtin_popcount(mask));
  }
};

struct Avx2Doubles {
  __m256d low;
  __m256d high;

  static Avx2Doubles zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  void store(double* target) const {
    _mm256_storeu_pd(target, low);
    _mm256_storeu_pd(target + 4, high);
  }

  friend Avx2Doubles operator+(Avx2Doubles a, Avx2Doubles b) {
    return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
  }
  friend Avx2Doubles abs(Avx2Doubles a) {
    const __m256d negative = _mm256_set1_pd(-0.0);
    return {_mm256_andnot_pd(negative, a.low), _mm256_andnot_pd(negative, a.high)};
  }
  friend Avx2Doubles add_square(Avx2Doubles sum, Avx2Doubles a) {
    return {_mm256_add_pd(sum.low, _mm256_mul_pd(a.low, a.low)), _mm256_add_pd(sum.high, _mm256_mul_pd(a.high, a.high))};
  }
};

struct Avx2 {
  static constexpr std::size_t kLanes = 16;
  using Ints = Avx2Ints;
  using Doubles = Avx2Doubles;

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

  friend Ints bits(Avx2 a) { return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)}; }
  static Avx2 from_bits(Ints a) { return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
  friend Ints truncate(Avx2 a) { return {_mm256_cvttps_epi32(a.low), _mm256_cvttps_epi32(a.high)}; }
  friend Doubles widen_low(Avx2 a) { return widen(a.low); }
  friend Doubles widen_high(Avx2 a) { return widen(a.high); }

 private:
  static Doubles widen(__m256 half) {
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(half)), _mm256_cvtps_pd(_mm256_extractf128_ps(half, 1))};
  }
  static constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT;
};

}  // namespace
}  // namespace ort_quant::simd
