// The depthwise kernel, written once over the registers of bytes_*.h. Read depthwise_job.h first.
//
// Nothing inline of the standard library is called: see kernels-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "depthwise_columns-inl.h"
#include "depthwise_job.h"
#include "depthwise_slide-inl.h"
#include "depthwise_tile-inl.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

template <class V>
class DepthwiseKernel {
 public:
  explicit DepthwiseKernel(const DepthwiseJob& job)
      : job_(job),
        end_(job.output.pieces.take != nullptr ? DepthwiseEnd::kFloats
             : job.clipped                     ? DepthwiseEnd::kClipped
                                               : DepthwiseEnd::kSaturated),
        bytes_(ByteEnd<V>::of(job.output.bytes)),
        columns_(job),
        sliding_(job) {}

  void run() {
    for (std::size_t b = 0; b < job_.block_count; ++b) {
      const DepthwiseBlock& block = job_.blocks[b];
      if (sliding_.run(block)) continue;
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
  SlidingKernel<V> sliding_;
};

template <class V>
void run_depthwise(const DepthwiseJob& job) {
  DepthwiseKernel<V>(job).run();
}

}  // namespace
}  // namespace ort_quant
