// int8 products in 512-bit registers without VNNI, exact: bytes are widened to 16 bits, even and odd ones apart.
#pragma once

#include "qsimd_memory.h"
#include "simd_avx512.h"

namespace ort_quant::simd {
namespace {

// What does not depend on how products are formed.
struct Avx512Bytes {
  using Floats = Avx512;
  using Sums = Avx512Ints;
  static constexpr bool kSignedActivations = false;

  static Sums load_sums(const std::int32_t* source) { return Sums::load(source); }
  static void store_sums(Sums sums, std::int32_t* target) { sums.store(target); }
  static Sums broadcast_sum(std::int32_t value) { return Sums::broadcast(value); }
  static Floats to_floats(Sums sums) { return {_mm512_cvtepi32_ps(sums.lanes)}; }
  static Sums round(Floats a) { return {_mm512_cvtps_epi32(a.lanes)}; }
  static Floats divide(Floats a, Floats b) { return {_mm512_div_ps(a.lanes, b.lanes)}; }
  static Floats where_negative(Floats a, Floats yes, Floats no) {
    return {_mm512_mask_mov_ps(no.lanes, _mm512_cmp_ps_mask(a.lanes, _mm512_setzero_ps(), _CMP_LT_OQ), yes.lanes)};
  }
  static Floats where_nan(Floats a, Floats instead) {
    // A table of four bits for each kind of number: 0 takes `instead`, for quiet and signalling NaN; 1 keeps a.
    return {_mm512_fixupimm_ps(instead.lanes, a.lanes, _mm512_set1_epi32(0x11111100), 0)};
  }
  // The first `count` of 16 values; nothing beyond them is touched. Other loaded lanes are 0.
  static Floats load_first(const float* source, std::size_t count) {
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), source)};
  }
  static void store_first(Floats a, float* target, std::size_t count) {
    _mm512_mask_storeu_ps(target, static_cast<__mmask16>((1u << count) - 1), a.lanes);
  }

  // codes + shift, saturated to bytes; the first `count` of them.
  template <std::size_t Width>
  static void store_codes(const Sums (&codes)[Width], Sums shift, std::uint8_t* y, std::size_t count) {
    const __m512i low = _mm512_packs_epi32(codes[0].lanes, codes[Width > 1 ? 1 : 0].lanes);
    const __m512i high = Width > 2 ? _mm512_packs_epi32(codes[Width > 2 ? 2 : 0].lanes, codes[Width - 1].lanes) : low;
    const __m512i words = _mm512_packs_epi32(shift.lanes, shift.lanes);
    const __m512i bytes = _mm512_packus_epi16(_mm512_adds_epi16(low, words), _mm512_adds_epi16(high, words));
    // Of each 128 bits, the first four bytes are vector 0's, the next four vector 1's, …
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i ordered = _mm512_permutexvar_epi32(order, bytes);
    if constexpr (Width == 1) {
      _mm_mask_storeu_epi8(y, first(count), _mm512_castsi512_si128(ordered));
    } else if constexpr (Width == 2) {
      _mm256_mask_storeu_epi8(y, first(count), _mm512_castsi512_si256(ordered));
    } else {
      _mm512_mask_storeu_epi8(y, static_cast<__mmask64>(~std::uint64_t{0} >> (64 - count)), ordered);
    }
  }

 private:
  static std::uint32_t first(std::size_t count) {
    return static_cast<std::uint32_t>(~std::uint64_t{0} >> (64 - count));
  }
};

struct Avx512Widening : Avx512Bytes {
  static constexpr std::size_t kMostRows[] = {12, 6, 0, 0};

  struct Pairs {  // 16-bit pairs: bytes 0 and 2, bytes 1 and 3
    __m512i even;
    __m512i odd;
  };
  using Activation = Pairs;
  using Weights = Pairs;

  static Activation broadcast(const std::uint8_t* four) {
    const __m512i bytes = _mm512_set1_epi32(load_four(four));
    return {_mm512_and_si512(bytes, _mm512_set1_epi16(0xFF)), _mm512_srli_epi16(bytes, 8)};
  }
  static Weights load_weights(const std::int8_t* weights) {
    const __m512i bytes = _mm512_loadu_si512(weights);
    return {_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8), _mm512_srai_epi16(bytes, 8)};
  }
  static Sums dot(Sums sum, Activation a, Weights w) {
    const __m512i products = _mm512_add_epi32(_mm512_madd_epi16(a.even, w.even), _mm512_madd_epi16(a.odd, w.odd));
    return {_mm512_add_epi32(sum.lanes, products)};
  }
};

}  // namespace
}  // namespace ort_quant::simd
