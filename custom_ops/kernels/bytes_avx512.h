// Bytes, int32 and float32 in one AVX-512 register (F, BW and VL; VNNI where asked for).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace ort_quant::simd {
namespace {

template <bool kVnni>
struct Avx512Bytes {
  static constexpr std::size_t kBytes = 64;
  static constexpr std::size_t kLanes = 16;
  static constexpr std::size_t kWeightBytes = kVnni ? 64 : 128;  // of one register of taps: see layer_table.h
  static constexpr bool kTiled = true;  // whether several outputs' sums stay in registers

  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;

  struct Weights {
    __m512i even;
    __m512i odd;
  };

  static Bytes splat_byte(std::uint8_t value) { return _mm512_set1_epi8(static_cast<char>(value)); }
  static Bytes load_bytes(const std::uint8_t* source) { return _mm512_loadu_si512(source); }
  static void store_bytes(std::uint8_t* target, Bytes a) { _mm512_storeu_si512(target, a); }
  static Bytes load_some(const std::uint8_t* source, std::size_t count) {
    return _mm512_maskz_loadu_epi8(first(count), source);
  }
  static void store_some(std::uint8_t* target, Bytes a, std::size_t count) {
    _mm512_mask_storeu_epi8(target, first(count), a);
  }

  // The first bytes of kParts places, side by side.
  template <std::size_t kParts>
  static Bytes load_parts(const std::uint8_t* const* at) {
    if constexpr (kParts == 1) {
      return load_bytes(at[0]);
    } else if constexpr (kParts == 2) {
      return _mm512_inserti64x4(_mm512_castsi256_si512(load_half(at[0])), load_half(at[1]), 1);
    } else {
      const __m512i first = _mm512_castsi128_si512(load_quarter(at[0]));
      const __m512i two = _mm512_inserti32x4(first, load_quarter(at[1]), 1);
      return _mm512_inserti32x4(_mm512_inserti32x4(two, load_quarter(at[2]), 2), load_quarter(at[3]), 3);
    }
  }
  static Bytes max_bytes(Bytes a, Bytes b) { return _mm512_max_epu8(a, b); }
  static Bytes unpack_low8(Bytes a, Bytes b) { return _mm512_unpacklo_epi8(a, b); }
  static Bytes unpack_high8(Bytes a, Bytes b) { return _mm512_unpackhi_epi8(a, b); }
  static Bytes unpack_low16(Bytes a, Bytes b) { return _mm512_unpacklo_epi16(a, b); }
  static Bytes unpack_high16(Bytes a, Bytes b) { return _mm512_unpackhi_epi16(a, b); }

  static Weights load_weights(const std::uint8_t* source) {
    if constexpr (kVnni) return {load_bytes(source), load_bytes(source)};
    return {load_bytes(source), load_bytes(source + 64)};
  }
  // Each int32 lane gains the four products of its bytes and weights: exact.
  static Ints dot(Ints sum, Bytes x, const Weights& w) {
    if constexpr (kVnni) {
      // GCC 12 keeps the intrinsic's sum in another register than its result and copies both ways in every loop.
      asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "vm"(w.even));
      return sum;
    }
    const __m512i even = _mm512_and_si512(x, _mm512_set1_epi16(0xFF));
    const __m512i products = _mm512_madd_epi16(even, w.even);
    return _mm512_add_epi32(_mm512_add_epi32(sum, products), _mm512_madd_epi16(_mm512_srli_epi16(x, 8), w.odd));
  }

  static Ints as_ints(Bytes a) { return a; }
  static Ints splat_int(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Ints load_ints(const void* source) { return _mm512_loadu_si512(source); }
  static void store_ints(void* target, Ints a) { _mm512_storeu_si512(target, a); }
  static Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  // Byte i of each lane, zero-extended.
  template <int kByte>
  static Ints byte_of(Ints a) {
    return _mm512_and_si512(_mm512_srli_epi32(a, 8 * kByte), _mm512_set1_epi32(0xFF));
  }
  // As many bytes as lanes, zero-extended.
  static Ints widen(const std::uint8_t* source) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
  }

  static Floats splat(float value) { return _mm512_set1_ps(value); }
  static Floats load(const void* source) { return _mm512_loadu_ps(source); }
  static void store(void* target, Floats a) { _mm512_storeu_ps(target, a); }
  static Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  // A NaN in b comes through.
  static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static Floats replace_nan(Floats a, Floats by) {
    return _mm512_mask_mov_ps(by, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a);
  }
  // To nearest even; −2^31 for what does not fit.
  static Ints round(Floats a) { return _mm512_cvtps_epi32(a); }

  // a + shift, b + shift as 16-bit values, and such as bytes; everything saturates. Two of the one and one of the other
  // undo the order of interleaved bytes.
  static Ints narrow_words(Ints a, Ints b, std::int32_t shift) {
    return _mm512_adds_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(static_cast<short>(shift)));
  }
  static Bytes narrow_bytes(Ints low, Ints high) { return _mm512_packus_epi16(low, high); }
  // clip(a + shift, 0, 255) of four registers.
  static Bytes narrow(Ints a, Ints b, Ints c, Ints d, std::int32_t shift) {
    return narrow_bytes(narrow_words(a, b, shift), narrow_words(c, d, shift));
  }
  // The same in the order of the arguments.
  static Bytes narrow_in_order(Ints a, Ints b, Ints c, Ints d, std::int32_t shift) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, narrow(a, b, c, d, shift));
  }

 private:
  static __mmask64 first(std::size_t count) { return count >= 64 ? ~0ull : (1ull << count) - 1; }
  static __m256i load_half(const std::uint8_t* source) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
  }
  static __m128i load_quarter(const std::uint8_t* source) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  }
};

}  // namespace
}  // namespace ort_quant::simd
