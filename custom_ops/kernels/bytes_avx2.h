// Bytes, int32 and float32 in one 256-bit register. The dot product of four bytes is that of AVX-VNNI, of AVX-512 VNNI
// with VL, or, with AVX2 alone, two products of 16-bit values: `vpmaddubsw` would saturate.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ort_quant::simd {
namespace {

enum class Dot { kWords, kAvxVnni, kAvx512Vnni };

template <Dot kDot>
struct Avx2Bytes {
  static constexpr std::size_t kBytes = 32;
  static constexpr std::size_t kLanes = 8;
  static constexpr std::size_t kWeightBytes = kDot == Dot::kWords ? 64 : 32;  // of one register of taps
  static constexpr bool kTiled = true;  // whether several outputs' sums stay in registers

  using Bytes = __m256i;
  using Ints = __m256i;
  using Floats = __m256;

  struct Weights {
    __m256i even;
    __m256i odd;
  };

  static Bytes splat_byte(std::uint8_t value) { return _mm256_set1_epi8(static_cast<char>(value)); }
  static Bytes load_bytes(const std::uint8_t* source) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
  }
  static void store_bytes(std::uint8_t* target, Bytes a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), a);
  }
  static Bytes load_some(const std::uint8_t* source, std::size_t count) {
    alignas(32) std::uint8_t bytes[32] = {};
    std::memcpy(bytes, source, count < 32 ? count : 32);
    return load_bytes(bytes);
  }
  static void store_some(std::uint8_t* target, Bytes a, std::size_t count) {
    alignas(32) std::uint8_t bytes[32];
    store_bytes(bytes, a);
    std::memcpy(target, bytes, count < 32 ? count : 32);
  }

  template <std::size_t kParts>
  static Bytes load_parts(const std::uint8_t* const* at) {
    if constexpr (kParts == 1) {
      return load_bytes(at[0]);
    } else {
      return _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(at[0])), load_half(at[1]), 1);
    }
  }
  static Bytes max_bytes(Bytes a, Bytes b) { return _mm256_max_epu8(a, b); }
  static Bytes unpack_low8(Bytes a, Bytes b) { return _mm256_unpacklo_epi8(a, b); }
  static Bytes unpack_high8(Bytes a, Bytes b) { return _mm256_unpackhi_epi8(a, b); }
  static Bytes unpack_low16(Bytes a, Bytes b) { return _mm256_unpacklo_epi16(a, b); }
  static Bytes unpack_high16(Bytes a, Bytes b) { return _mm256_unpackhi_epi16(a, b); }

  static Weights load_weights(const std::uint8_t* source) {
    if constexpr (kDot != Dot::kWords) return {load_bytes(source), load_bytes(source)};
    return {load_bytes(source), load_bytes(source + 32)};
  }
  static Ints dot(Ints sum, Bytes x, const Weights& w) {
    // As in bytes_avx512.h: assembler because of GCC 12's register copies.
    if constexpr (kDot == Dot::kAvxVnni) {
      asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "xm"(w.even));
      return sum;
    }
    if constexpr (kDot == Dot::kAvx512Vnni) {
      asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "vm"(w.even));
      return sum;
    }
    const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(0xFF));
    const __m256i products = _mm256_madd_epi16(even, w.even);
    return _mm256_add_epi32(_mm256_add_epi32(sum, products), _mm256_madd_epi16(_mm256_srli_epi16(x, 8), w.odd));
  }

  static Ints as_ints(Bytes a) { return a; }
  static Ints splat_int(std::int32_t value) { return _mm256_set1_epi32(value); }
  static Ints load_ints(const void* source) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(source));
  }
  static void store_ints(void* target, Ints a) { _mm256_storeu_si256(static_cast<__m256i*>(target), a); }
  static Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  template <int kByte>
  static Ints byte_of(Ints a) {
    return _mm256_and_si256(_mm256_srli_epi32(a, 8 * kByte), _mm256_set1_epi32(0xFF));
  }
  static Ints widen(const std::uint8_t* source) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source)));
  }

  static Floats splat(float value) { return _mm256_set1_ps(value); }
  static Floats load(const void* source) { return _mm256_loadu_ps(static_cast<const float*>(source)); }
  static void store(void* target, Floats a) { _mm256_storeu_ps(static_cast<float*>(target), a); }
  static Floats to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
  static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  static Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  static Floats replace_nan(Floats a, Floats by) { return _mm256_blendv_ps(by, a, _mm256_cmp_ps(a, a, _CMP_ORD_Q)); }
  static Ints round(Floats a) { return _mm256_cvtps_epi32(a); }

  static Ints narrow_words(Ints a, Ints b, std::int32_t shift) {
    return _mm256_adds_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16(static_cast<short>(shift)));
  }
  static Bytes narrow_bytes(Ints low, Ints high) { return _mm256_packus_epi16(low, high); }
  static Bytes narrow(Ints a, Ints b, Ints c, Ints d, std::int32_t shift) {
    return narrow_bytes(narrow_words(a, b, shift), narrow_words(c, d, shift));
  }
  static Bytes narrow_in_order(Ints a, Ints b, Ints c, Ints d, std::int32_t shift) {
    return _mm256_permutevar8x32_epi32(narrow(a, b, c, d, shift), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }

 private:
  static __m128i load_half(const std::uint8_t* source) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  }
};

}  // namespace
}  // namespace ort_quant::simd
