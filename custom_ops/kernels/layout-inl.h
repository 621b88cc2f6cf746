// Quantizing, dequantizing and changing the layout, written once over the registers of bytes_*.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_jobs.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

template <class V>
ByteEnd<V> end_of(const ByteQuantizer& quantizer) {
  return ByteEnd<V>::of({nullptr, quantizer, -__builtin_inff(), __builtin_inff()});
}

// The first `count` values of a register's worth: a whole register is read in place.
template <class V>
struct FloatBlock {
  alignas(64) float values[V::kBytes];
  const float* at;

  FloatBlock(const float* x, std::size_t count) : at(x) {
    if (count >= V::kBytes) return;
    __builtin_memcpy(values, x, count * sizeof(float));
    for (std::size_t i = count; i < V::kBytes; ++i) values[i] = 0.0f;
    at = values;
  }
  typename V::Ints code(const ByteEnd<V>& end, std::size_t j) const {
    return end.code_or_nan(V::load(at + j * V::kLanes));
  }
};

template <class V>
void quantize_values(const float* x, std::uint8_t* y, std::size_t count, const ByteQuantizer& quantizer) {
  const auto end = end_of<V>(quantizer);
  for (std::size_t i = 0; i < count; i += V::kBytes) {
    const std::size_t n = count - i < V::kBytes ? count - i : V::kBytes;
    const FloatBlock<V> block(x + i, n);
    const auto codes =
        V::narrow_in_order(block.code(end, 0), block.code(end, 1), block.code(end, 2), block.code(end, 3), end.shift);
    if (n == V::kBytes) {
      V::store_bytes(y + i, codes);
    } else {
      V::store_some(y + i, codes, n);
    }
  }
}

template <class V>
void dequantize_values(const std::uint8_t* x, float* y, std::size_t count, float scale, std::int32_t zero_point) {
  const auto factor = V::splat(scale);
  const auto zero = V::splat_int(-zero_point);
  const auto convert = [&](const std::uint8_t* from) {
    return V::mul(V::to_floats(V::add_ints(V::widen(from), zero)), factor);
  };
  std::size_t i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) V::store(y + i, convert(x + i));
  if (i == count) return;
  std::uint8_t head[V::kLanes] = {};
  float tail[V::kLanes];
  __builtin_memcpy(head, x + i, count - i);
  V::store(tail, convert(head));
  __builtin_memcpy(y + i, tail, (count - i) * sizeof(float));
}

// Four channels of so many positions, side by side: [position][4].
template <class V>
void store_pixels(const std::uint8_t* pixels, std::size_t positions, std::uint8_t* y, std::size_t channels,
                  std::size_t count) {
  // Three channels in a row of three: each store's fourth byte is overwritten by the next.
  const std::size_t overlapping = count == 3 && channels == 3 ? positions - 1 : count == 4 ? positions : 0;
  std::size_t p = 0;
  for (; p < overlapping; ++p) __builtin_memcpy(y + p * channels, pixels + 4 * p, 4);
  for (; p < positions; ++p) {
    for (std::size_t c = 0; c < count; ++c) y[p * channels + c] = pixels[4 * p + c];
  }
}

template <class V>
void quantize_planes(const float* x, std::uint8_t* y, const PlanesJob& job, const ByteQuantizer& quantizer) {
  const auto end = end_of<V>(quantizer);
  alignas(64) std::uint8_t pixels[4 * V::kBytes];
  for (std::size_t p = job.begin; p < job.end; p += V::kBytes) {
    const std::size_t positions = job.end - p < V::kBytes ? job.end - p : V::kBytes;
    for (std::size_t c = 0; c < job.channels; c += 4) {
      const std::size_t count = job.channels - c < 4 ? job.channels - c : 4;
      const auto codes = [&](std::size_t i) {
        const FloatBlock<V> block(x + (c + (i < count ? i : 0)) * job.plane + p, positions);
        return V::narrow(block.code(end, 0), block.code(end, 1), block.code(end, 2), block.code(end, 3), end.shift);
      };
      // Narrowing and interleaving undo each other's order: the pixels come out one after the other.
      Quad<V>::interleave(codes(0), codes(1), codes(2), codes(3)).store(pixels);
      store_pixels<V>(pixels, positions, y + p * job.channels + c, job.channels, count);
    }
  }
}

template <class V, int kByte>
typename V::Floats dequantize_byte(typename V::Ints pixels, typename V::Ints zero, typename V::Floats factor) {
  return V::mul(V::to_floats(V::add_ints(V::template byte_of<kByte>(pixels), zero)), factor);
}

template <class V>
void dequantize_planes(const std::uint8_t* x, float* y, const PlanesJob& job, float scale, std::int32_t zero_point) {
  const auto factor = V::splat(scale);
  const auto zero = V::splat_int(-zero_point);
  alignas(64) std::uint8_t pixels[4 * V::kLanes] = {};
  alignas(64) float planes[4][V::kLanes];
  for (std::size_t c = 0; c < job.channels; c += 4) {
    const std::size_t count = job.channels - c < 4 ? job.channels - c : 4;
    for (std::size_t p = job.begin; p < job.end; p += V::kLanes) {
      const std::size_t positions = job.end - p < V::kLanes ? job.end - p : V::kLanes;
      for (std::size_t i = 0; i < positions; ++i) {
        const std::uint8_t* from = x + (p + i) * job.channels + c;
        if (count == 4) {
          __builtin_memcpy(pixels + 4 * i, from, 4);
        } else {
          for (std::size_t k = 0; k < count; ++k) pixels[4 * i + k] = from[k];
        }
      }
      const auto values = V::load_ints(pixels);
      V::store(planes[0], dequantize_byte<V, 0>(values, zero, factor));
      V::store(planes[1], dequantize_byte<V, 1>(values, zero, factor));
      V::store(planes[2], dequantize_byte<V, 2>(values, zero, factor));
      V::store(planes[3], dequantize_byte<V, 3>(values, zero, factor));
      for (std::size_t k = 0; k < count; ++k) {
        float* target = y + (c + k) * job.plane + p;
        if (positions == V::kLanes) {
          __builtin_memcpy(target, planes[k], sizeof planes[k]);
        } else {
          __builtin_memcpy(target, planes[k], positions * sizeof(float));
        }
      }
    }
  }
}

// In squares, so that both sides are read and written in runs.
inline void split_planes(const float* x, float* y, const PlanesJob& job) {
  constexpr std::size_t kSide = 16;
  for (std::size_t p = job.begin; p < job.end; p += kSide) {
    const std::size_t p_end = job.end - p < kSide ? job.end : p + kSide;
    for (std::size_t c = 0; c < job.channels; c += kSide) {
      const std::size_t c_end = job.channels - c < kSide ? job.channels : c + kSide;
      for (std::size_t channel = c; channel < c_end; ++channel) {
        for (std::size_t i = p; i < p_end; ++i) y[channel * job.plane + i] = x[i * job.channels + channel];
      }
    }
  }
}

}  // namespace
}  // namespace ort_quant
