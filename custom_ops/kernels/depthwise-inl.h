// The depthwise kernel, written once over the registers of bytes_*.h. Read depthwise_job.h first.
//
// Nothing inline of the standard library is called: see kernels-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "depthwise_job.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

inline constexpr std::size_t kMaxTileOutputs = 12;

// A list row. Padding is the same in all columns: its step is 0.
struct RowSource {
  const std::uint8_t* at;
  std::int64_t step;
};

// Interleaves the columns [0, count) of four list rows, each given for kParts parts.
template <class V, std::size_t kParts>
void interleave_columns(const RowSource* rows, std::int64_t count, std::uint8_t* target, std::size_t target_step) {
  const std::uint8_t* at[4 * kParts];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < 4 * kParts; ++i) at[i] = rows[i].at;
  for (; count > 0; --count, target += target_step) {
    const auto load = [&](std::size_t k) { return V::template load_parts<kParts>(at + k * kParts); };
    Quad<V>::interleave(load(0), load(1), load(2), load(3)).store(target);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 4 * kParts; ++i) at[i] += rows[i].step;
  }
}

// The same for channels that do not fill their part.
template <class V>
void interleave_narrow(const DepthwiseBlock& block, const RowSource* rows, std::int64_t count, std::uint8_t* target,
                       std::size_t target_step) {
  for (std::int64_t c = 0; c < count; ++c, target += target_step) {
    const auto load = [&](std::size_t k) {
      alignas(64) std::uint8_t bytes[V::kBytes] = {};
      for (std::size_t part = 0; part < block.parts; ++part) {
        const RowSource& row = rows[k * block.parts + part];
        V::store_some(bytes + part * block.width, V::load_some(row.at + c * row.step, block.count), block.count);
      }
      return V::load_bytes(bytes);
    };
    Quad<V>::interleave(load(0), load(1), load(2), load(3)).store(target);
  }
}

// The interleaved input columns that a tile of outputs reads.
template <class V>
class DepthwiseColumns {
 public:
  static constexpr std::size_t kQuadBytes = 4 * V::kBytes;

  explicit DepthwiseColumns(const DepthwiseJob& job) : job_(job) {
    V::store_bytes(padding_, V::splat_byte(job.zero_point));
  }

  const std::uint8_t* bytes() const { return bytes_; }

  // Turns to the groups of output rows that begin at `row`, one per part of the block.
  void seek(const DepthwiseBlock& block, std::int64_t row) {
    const auto group_rows = static_cast<std::int64_t>(job_.group_rows);
    for (std::size_t k = 0; k < 4 * job_.quads; ++k) {
      for (std::size_t part = 0; part < block.parts; ++part) {
        const std::int64_t first_row = row + static_cast<std::int64_t>(part) * group_rows;
        sources_[k * block.parts + part] = source(block, first_row, job_.rows[k]);
      }
    }
  }

  // Interleaves the input columns [first, first + count).
  void fill(const DepthwiseBlock& block, std::int64_t first, std::int64_t count) {
    const std::size_t column_bytes = job_.quads * kQuadBytes;
    const std::int64_t end = first + count;
    const auto clamp = [&](std::int64_t c) { return c < first ? first : c > end ? end : c; };
    const std::int64_t inner = clamp(0), inner_end = clamp(job_.in[2]);
    const auto place = [&](std::int64_t c) { return bytes_ + static_cast<std::size_t>(c - first) * column_bytes; };
    for (std::int64_t c = first; c < inner; ++c) pad(place(c));
    for (std::int64_t c = inner_end > inner ? inner_end : inner; c < end; ++c) pad(place(c));
    for (std::size_t q = 0; q < job_.quads; ++q) {
      RowSource rows[4 * kMaxDepthwiseParts];
      for (std::size_t i = 0; i < 4 * block.parts; ++i) {
        const RowSource& row = sources_[4 * q * block.parts + i];
        rows[i] = {row.at + inner * row.step, row.step};
      }
      interleave(block, rows, inner_end - inner, place(inner) + q * kQuadBytes, column_bytes);
    }
  }

 private:
  RowSource source(const DepthwiseBlock& block, std::int64_t first_row, const DepthwiseRow& tap) const {
    const std::int64_t depth = job_.depth * job_.strides[0] - job_.pads_begin[0] + tap.depth;
    const std::int64_t row = first_row * job_.strides[1] - job_.pads_begin[1] + tap.row;
    if (depth < 0 || depth >= job_.in[0] || row < 0 || row >= job_.in[1]) return {padding_, 0};
    const std::int64_t place = depth * job_.x_steps[0] + row * job_.x_steps[1];
    return {job_.x + place + block.first, job_.x_steps[2]};
  }

  static void interleave(const DepthwiseBlock& block, const RowSource* rows, std::int64_t count, std::uint8_t* target,
                         std::size_t target_step) {
    if (block.count != block.width) return interleave_narrow<V>(block, rows, count, target, target_step);
    if constexpr (V::kBytes == 64) {
      if (block.parts == 4) return interleave_columns<V, 4>(rows, count, target, target_step);
    }
    if constexpr (V::kBytes >= 32) {
      if (block.parts == 2) return interleave_columns<V, 2>(rows, count, target, target_step);
    }
    interleave_columns<V, 1>(rows, count, target, target_step);
  }

  void pad(std::uint8_t* target) const {
    const auto zeros = V::splat_byte(job_.zero_point);
    for (std::size_t q = 0; q < job_.quads; ++q) Quad<V>{{zeros, zeros, zeros, zeros}}.store(target + q * kQuadBytes);
  }

  const DepthwiseJob& job_;
  RowSource sources_[kMaxQuads * 4 * kMaxDepthwiseParts];
  alignas(64) std::uint8_t padding_[V::kBytes];
  alignas(64) std::uint8_t bytes_[kMaxColumnQuads * kQuadBytes];
};

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

template <class V>
class DepthwiseKernel {
 public:
  explicit DepthwiseKernel(const DepthwiseJob& job)
      : job_(job),
        end_(job.output.pieces.take != nullptr ? DepthwiseEnd::kFloats
             : job.clipped                     ? DepthwiseEnd::kClipped
                                               : DepthwiseEnd::kSaturated),
        bytes_(ByteEnd<V>::of(job.output.bytes)),
        columns_(job) {}

  void run() {
    for (std::size_t b = 0; b < job_.block_count; ++b) {
      const DepthwiseBlock& block = job_.blocks[b];
      const auto step = static_cast<std::int64_t>(job_.group_rows * block.parts);
      for (std::int64_t row = job_.row_begin; row < job_.row_end; row += step) {
        columns_.seek(block, row);
        for (std::int64_t x = 0; x < job_.out[2]; x += job_.tile_columns) {
          run_strip(block, row, x, smaller(job_.tile_columns, job_.out[2] - x));
        }
      }
    }
  }

 private:
  static std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

  // `count` output columns of the groups of rows at `row`.
  void run_strip(const DepthwiseBlock& block, std::int64_t row, std::int64_t first, std::int64_t count) {
    const std::int64_t taps = (static_cast<std::int64_t>(job_.kernel_columns) - 1) * job_.column_dilation + 1;
    columns_.fill(block, first * job_.strides[2] - job_.pads_begin[2], (count - 1) * job_.strides[2] + taps);
    const auto output_bytes =
        static_cast<std::size_t>(job_.strides[2]) * job_.quads * DepthwiseColumns<V>::kQuadBytes;
    const auto rows = static_cast<std::size_t>(smaller(static_cast<std::int64_t>(job_.group_rows), job_.row_end - row));
    for (std::int64_t x = 0; x < count;) {
      const std::size_t columns = tile_width(rows, count - x);
      compute(block, columns_.bytes() + static_cast<std::size_t>(x) * output_bytes, rows, columns);
      for (std::size_t r = 0; r < rows; ++r) {
        store_row(block, row + static_cast<std::int64_t>(r), first + x, r, columns);
      }
      x += static_cast<std::int64_t>(columns);
    }
  }

  // So many outputs that their sums stay in registers, and no narrow tile at the end.
  static std::size_t tile_width(std::size_t rows, std::int64_t left) {
    if (!V::kTiled) return 1;
    if (rows == 1 && left >= 8) return 8;
    const std::int64_t most = rows <= 2 ? 4 : 3;
    const bool split = left > most && left < 2 * most;
    return static_cast<std::size_t>(split ? (left + 1) / 2 : smaller(left, most));
  }

  void compute(const DepthwiseBlock& block, const std::uint8_t* columns, std::size_t rows, std::size_t width) {
    switch (rows) {
      case 1: return compute_rows<1>(block, columns, width);
      case 2: return compute_rows<2>(block, columns, width);
      case 3: return compute_rows<3>(block, columns, width);
      default: return compute_rows<4>(block, columns, width);
    }
  }

  template <std::size_t Rows>
  void compute_rows(const DepthwiseBlock& block, const std::uint8_t* columns, std::size_t width) {
    if (width == 1) return depthwise_tile<V, Rows, 1>(job_, block, columns, bytes_, end_, tile_);
    if constexpr (V::kTiled) compute_wide<Rows>(block, columns, width);
  }

  template <std::size_t Rows>
  void compute_wide(const DepthwiseBlock& block, const std::uint8_t* columns, std::size_t width) {
    if (width == 2) return depthwise_tile<V, Rows, 2>(job_, block, columns, bytes_, end_, tile_);
    if (width == 3) return depthwise_tile<V, Rows, 3>(job_, block, columns, bytes_, end_, tile_);
    if constexpr (Rows <= 2) {
      if (width == 4) return depthwise_tile<V, Rows, 4>(job_, block, columns, bytes_, end_, tile_);
    }
    if constexpr (Rows == 1) depthwise_tile<V, Rows, 8>(job_, block, columns, bytes_, end_, tile_);
  }

  // Row r of the tile is output row `row` of the first part; the other parts' rows follow group by group.
  void store_row(const DepthwiseBlock& block, std::int64_t row, std::int64_t first, std::size_t r,
                 std::size_t columns) {
    const auto group_rows = static_cast<std::int64_t>(job_.group_rows);
    std::size_t parts = 1;
    while (parts < block.parts && row + static_cast<std::int64_t>(parts) * group_rows < job_.row_end) ++parts;
    const std::int64_t part_step = group_rows * job_.y_steps[1];
    const std::int64_t begin =
        job_.position + job_.depth * job_.y_steps[0] + row * job_.y_steps[1] + first * job_.y_steps[2];
    if (end_ == DepthwiseEnd::kFloats) {
      for (std::size_t x = 0; x < columns; ++x) {
        for (std::size_t part = 0; part < parts; ++part) {
          const std::int64_t position = begin + static_cast<std::int64_t>(x) * job_.y_steps[2] +
                                        static_cast<std::int64_t>(part) * part_step;
          give_piece(block, r * columns + x, part, static_cast<std::size_t>(position));
        }
      }
      return;
    }
    const auto channels = static_cast<std::int64_t>(job_.channels);
    const ByteRow target{job_.output.bytes.y + begin * channels + block.first, job_.y_steps[2] * channels,
                         part_step * channels, parts};
    const std::uint8_t* codes = tile_.codes[r * columns];
    if (block.count == 64) {
      store_codes<64>(codes, columns, target, block.width);
    } else if (block.count == 32) {
      store_codes<32>(codes, columns, target, block.width);
    } else if (block.count == 16) {
      store_codes<16>(codes, columns, target, block.width);
    } else {
      store_codes<0>(codes, columns, target, block.width, block.count);
    }
  }

  // Where the bytes of a row of outputs go.
  struct ByteRow {
    std::uint8_t* y;
    std::int64_t step;
    std::int64_t part_step;
    std::size_t parts;
  };

  // `kCount` channels of each part, or, if it is 0, `count`.
  template <std::size_t kCount>
  static void store_codes(const std::uint8_t* codes, std::size_t columns, const ByteRow& target, std::size_t width,
                          std::size_t count = kCount) {
    std::uint8_t* y = target.y;
    for (std::size_t x = 0; x < columns; ++x, y += target.step, codes += V::kBytes) {
      std::uint8_t* part_y = y;
      for (std::size_t part = 0; part < target.parts; ++part, part_y += target.part_step) {
        __builtin_memcpy(part_y, codes + part * width, kCount == 0 ? count : kCount);
      }
    }
  }

  void give_piece(const DepthwiseBlock& block, std::size_t output, std::size_t part, std::size_t position) {
    float values[2 * kLargestPiece];  // the channels that are not given start anywhere in the first half
    for (std::size_t c = 0; c < block.width; c += 4) {
      const std::size_t byte = part * block.width + c;
      __builtin_memcpy(values + c, tile_.floats[output] + byte / 4 % 4 * V::kBytes + byte / 16 * 16, 16);
    }
    job_.output.pieces.take(job_.output.pieces.context, values + block.repeated, position, block.first + block.repeated,
                            block.count - block.repeated);
  }

  const DepthwiseJob& job_;
  DepthwiseEnd end_;
  ByteEnd<V> bytes_;
  DepthwiseTile<V> tile_;
  DepthwiseColumns<V> columns_;
};

template <class V>
void run_depthwise(const DepthwiseJob& job) {
  DepthwiseKernel<V>(job).run();
}

}  // namespace
}  // namespace ort_quant
