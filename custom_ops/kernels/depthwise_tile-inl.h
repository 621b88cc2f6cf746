// The sums of a tile of outputs, from interleaved columns that lie in memory: any window.
#pragma once

#include <cstddef>
#include <cstdint>

#include "depthwise_job.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

inline constexpr std::size_t kMaxTileOutputs = 12;

enum class DepthwiseEnd { kSaturated, kClipped, kFloats };

// Outputs of a tile.
template <class V>
struct DepthwiseTile {
  alignas(64) std::uint8_t words[kMaxTileOutputs][V::kBytes];  // the first half of an output's codes, on their way
  alignas(64) std::uint8_t codes[kMaxTileOutputs][V::kBytes];
  alignas(64) std::uint8_t floats[kMaxTileOutputs][4 * V::kBytes];  // in the order of interleaved bytes
};

// Half of the channels of Rows × Columns outputs: 32 bits each in two registers.
template <class V, std::size_t Rows, std::size_t Columns>
struct DepthwiseSums {
  typename V::Ints at[2][Rows][Columns];

  explicit DepthwiseSums(const std::uint8_t* start) {
#pragma GCC unroll 2
    for (std::size_t j = 0; j < 2; ++j) {
      const typename V::Ints value = V::load_ints(start + j * V::kBytes);
#pragma GCC unroll 4
      for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (std::size_t x = 0; x < Columns; ++x) at[j][r][x] = value;
      }
    }
  }

  // A quad of taps: neighbouring outputs' columns are `step` bytes apart, the registers' weights `weights_step`.
  void add(const std::uint8_t* column, std::size_t step, const std::uint8_t* weights, std::size_t weights_step) {
#pragma GCC unroll 2
    for (std::size_t j = 0; j < 2; ++j) {
      typename V::Weights w[Rows];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < Rows; ++r) w[r] = V::load_weights(weights + j * weights_step + r * V::kWeightBytes);
#pragma GCC unroll 8
      for (std::size_t x = 0; x < Columns; ++x) {
        const typename V::Bytes value = V::load_bytes(column + j * V::kBytes + x * step);
#pragma GCC unroll 4
        for (std::size_t r = 0; r < Rows; ++r) at[j][r][x] = V::dot(at[j][r][x], value, w[r]);
      }
    }
  }

  template <DepthwiseEnd kEnd>
  void finish(const std::uint8_t* factors, const ByteEnd<V>& bytes, std::size_t half, DepthwiseTile<V>& tile) const {
    const typename V::Floats deq[2] = {V::load(factors), V::load(factors + V::kBytes)};
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
      for (std::size_t x = 0; x < Columns; ++x) {
        const typename V::Floats low = V::mul(V::to_floats(at[0][r][x]), deq[0]);
        const typename V::Floats high = V::mul(V::to_floats(at[1][r][x]), deq[1]);
        const std::size_t output = r * Columns + x;
        if constexpr (kEnd == DepthwiseEnd::kFloats) {
          V::store(tile.floats[output] + 2 * half * V::kBytes, low);
          V::store(tile.floats[output] + (2 * half + 1) * V::kBytes, high);
        } else if constexpr (kEnd == DepthwiseEnd::kClipped) {
          put(V::narrow_words(bytes.code(low), bytes.code(high), bytes.shift), output, half, tile);
        } else {
          const auto words = V::narrow_words(bytes.saturating_code(low), bytes.saturating_code(high), bytes.shift);
          put(words, output, half, tile);
        }
      }
    }
  }

 private:
  static void put(typename V::Ints words, std::size_t output, std::size_t half, DepthwiseTile<V>& tile) {
    if (half == 0) {
      V::store_ints(tile.words[output], words);
    } else {
      V::store_bytes(tile.codes[output], V::narrow_bytes(V::load_ints(tile.words[output]), words));
    }
  }
};

// Rows × Columns outputs from the interleaved columns, of which the first belongs to the first output's first tap.
template <class V, std::size_t Rows, std::size_t Columns>
__attribute__((noinline)) void depthwise_tile(const DepthwiseJob& job, const DepthwiseBlock& block,
                                              const std::uint8_t* columns, const ByteEnd<V>& bytes, DepthwiseEnd end,
                                              DepthwiseTile<V>& tile) {
  const std::size_t column_bytes = job.quads * 4 * V::kBytes;
  const std::size_t output_step = static_cast<std::size_t>(job.strides[2]) * column_bytes;
  const std::size_t tap_step = static_cast<std::size_t>(job.column_dilation) * column_bytes;
  const std::size_t tap_weights = job.group_rows * V::kWeightBytes;
  const std::size_t register_weights = job.quads * job.kernel_columns * tap_weights;
#pragma GCC unroll 2
  for (std::size_t half = 0; half < 2; ++half) {
    DepthwiseSums<V, Rows, Columns> sums(block.start + 2 * half * V::kBytes);
    const std::uint8_t* weights = block.weights + 2 * half * register_weights;
    for (std::size_t q = 0; q < job.quads; ++q) {
      const std::uint8_t* tap = columns + (4 * q + 2 * half) * V::kBytes;
      for (std::size_t k = job.kernel_columns; k > 0; --k, tap += tap_step, weights += tap_weights) {
        sums.add(tap, output_step, weights, register_weights);
      }
    }
    const std::uint8_t* factors = block.deq + 2 * half * V::kBytes;
    if (end == DepthwiseEnd::kSaturated) {
      sums.template finish<DepthwiseEnd::kSaturated>(factors, bytes, half, tile);
    } else if (end == DepthwiseEnd::kClipped) {
      sums.template finish<DepthwiseEnd::kClipped>(factors, bytes, half, tile);
    } else {
      sums.template finish<DepthwiseEnd::kFloats>(factors, bytes, half, tile);
    }
  }
}

}  // namespace
}  // namespace ort_quant
