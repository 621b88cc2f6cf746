// From sums to codes, two registers at a time, where saturation does all the clipping. See ByteEnd.
#pragma once

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>

#include "layer_output-inl.h"

namespace ort_quant {
namespace {

// kRegisters of a block's channels.
template <class V, std::size_t kRegisters>
class SaturatingEnd {
 public:
  SaturatingEnd(const ByteEnd<V>& bytes, const std::uint8_t* start, const std::uint8_t* deq) : bytes_(bytes) {
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kRegisters; ++j) {
      start_[j] = V::load_ints(start + j * V::kBytes);
      deq_[j] = V::load(deq + j * V::kBytes);
    }
  }

  typename V::Ints start(std::size_t j) const { return start_[j]; }

  // Of the registers j and j + 1.
  typename V::Ints words(typename V::Ints low, typename V::Ints high, std::size_t j) const {
    return V::narrow_words(bytes_.saturating_code(V::mul(V::to_floats(low), deq_[j])),
                           bytes_.saturating_code(V::mul(V::to_floats(high), deq_[j + 1])), bytes_.shift);
  }

 private:
  ByteEnd<V> bytes_;
  typename V::Ints start_[kRegisters];
  typename V::Floats deq_[kRegisters];
};

// DepthwiseJob::from_zero: a quarter less to do. Sums count from the bits of 2^23 as a float32, whose last bit is 1, so
// they need no conversion: (2^23 + sum)·deq − 2^23·deq is rounded once, to y. Below 2^23 the last bit is 1/2: there y is
// half as large as it should be, but still negative, and its code 0.
template <class V, std::size_t kRegisters>
class FromZeroEnd {
#ifdef __AVX512F__
 public:
  static constexpr bool kUsable = V::kBytes == 64;

  FromZeroEnd(const ByteEnd<V>& bytes, const std::uint8_t* start, const std::uint8_t* deq) : scale_(bytes.scale) {
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kRegisters; ++j) {
      start_[j] = _mm512_add_epi32(_mm512_loadu_si512(start + j * 64), _mm512_set1_epi32(0x4B000000));
      deq_[j] = _mm512_loadu_ps(deq + j * 64);
      base_[j] = _mm512_mul_ps(deq_[j], _mm512_set1_ps(-0x1p23f));
    }
  }

  __m512i start(std::size_t j) const { return start_[j]; }

  __m512i words(__m512i low, __m512i high, std::size_t j) const {
    return _mm512_packs_epi32(code(low, j), code(high, j + 1));
  }

 private:
  __m512i code(__m512i sum, std::size_t j) const {
    const __m512 y = _mm512_fmadd_ps(_mm512_castsi512_ps(sum), deq_[j], base_[j]);
    return _mm512_cvtps_epi32(_mm512_mul_ps(y, scale_));
  }

  __m512 scale_;
  __m512i start_[kRegisters];
  __m512 deq_[kRegisters];
  __m512 base_[kRegisters];
#else
 public:
  static constexpr bool kUsable = false;
#endif
};

}  // namespace
}  // namespace ort_quant
