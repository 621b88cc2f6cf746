// The windows that nearly all networks have: three or five columns, stride one or two. The columns of a window stay in
// registers, interleaved, while the window slides along the outputs of a group of rows. Nothing but codes is stored,
// where depthwise_tile-inl.h has all columns in memory.
//
// Every loop over registers is unrolled by force: GCC 12 keeps an array of registers in memory otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "depthwise_columns-inl.h"
#include "depthwise_end-inl.h"
#include "depthwise_job.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

template <std::size_t columns, std::size_t stride, std::size_t rows, std::size_t quads>
struct SlidingShape {
  static constexpr std::size_t kColumns = columns;
  static constexpr std::size_t kStride = stride;
  static constexpr std::size_t kRows = rows;  // of a group
  static constexpr std::size_t kQuads = quads;

  static bool fits(const DepthwiseJob& job) {
    return job.kernel_columns == columns && job.strides[2] == std::int64_t{stride} && job.column_dilation == 1 &&
           job.group_rows == rows && job.quads == quads;
  }
};

inline constexpr std::size_t kMaxSlidingSources = 4 * 2 * kMaxDepthwiseParts;
// Input that a strip of so many outputs (times the stride) reads stays in the first-level cache for the second half.
inline constexpr std::size_t kSlidingOutputs = 64;

// A strip of outputs of a group of rows, or of one group for each part of a block.
struct SlidingStrip {
  const std::uint8_t* sources[kMaxSlidingSources];  // input column 0 of the list rows, each for all parts
  std::int64_t keep[kMaxSlidingSources];  // −1, or 0 for padding: it has the same bytes in all columns
  std::int64_t columns;                   // of the input
  std::int64_t column_step;
  std::int64_t first;                     // input column of the first output's first tap
  std::int64_t count;                     // outputs of a row
  std::uint8_t* y;
  std::int64_t y_step;
  std::int64_t y_row_step;
  std::int64_t rows;                      // that are outputs, from the first part's first row on
  std::uint8_t zero_point;
};

// Registers of channels that a pass over a strip works on: kCount from kFirst on, all four or one half.
template <std::size_t first, std::size_t count>
struct SlidingPass {
  static constexpr std::size_t kFirst = first;
  static constexpr std::size_t kCount = count;
};

// A pass's registers of an interleaved column.
template <class V, class Shape, class Pass>
struct SlidingColumn {
  typename V::Bytes at[Shape::kQuads][Pass::kCount];

  void take(const SlidingColumn& other) {
#pragma GCC unroll 2
    for (std::size_t q = 0; q < Shape::kQuads; ++q) {
#pragma GCC unroll 4
      for (std::size_t j = 0; j < Pass::kCount; ++j) at[q][j] = other.at[q][j];
    }
  }
};

// Reads a strip's input columns one after the other.
template <class V, class Shape, class Pass, std::size_t kParts, bool kEdge>
class SlidingReader {
 public:
  explicit SlidingReader(const SlidingStrip& strip)
      : padding_(V::splat_byte(strip.zero_point)),
        columns_(static_cast<std::uint64_t>(strip.columns)),
        step_(strip.column_step),
        column_(strip.first),
        offset_(strip.first * strip.column_step) {
#pragma GCC unroll 32
    for (std::size_t i = 0; i < kSources; ++i) {
      sources_[i] = strip.sources[i];
      if constexpr (kEdge) keep_[i] = strip.keep[i];
    }
  }

  __attribute__((always_inline)) void next(SlidingColumn<V, Shape, Pass>& column) {
    if (static_cast<std::uint64_t>(column_) < columns_) {
#pragma GCC unroll 2
      for (std::size_t q = 0; q < Shape::kQuads; ++q) {
        const auto a = row(4 * q), b = row(4 * q + 1), c = row(4 * q + 2), d = row(4 * q + 3);
        if constexpr (Pass::kFirst == 0) put(column.at[q], V::unpack_low8(a, b), V::unpack_low8(c, d));
        if constexpr (Pass::kFirst + Pass::kCount == 4) {
          put(column.at[q] + Pass::kCount - 2, V::unpack_high8(a, b), V::unpack_high8(c, d));
        }
      }
    } else {
#pragma GCC unroll 2
      for (std::size_t q = 0; q < Shape::kQuads; ++q) {
#pragma GCC unroll 4
        for (std::size_t j = 0; j < Pass::kCount; ++j) column.at[q][j] = padding_;
      }
    }
    ++column_;
    offset_ += step_;
  }

 private:
  static constexpr std::size_t kSources = 4 * Shape::kQuads * kParts;

  typename V::Bytes row(std::size_t k) const {
    const std::uint8_t* at[kParts];
#pragma GCC unroll 4
    for (std::size_t part = 0; part < kParts; ++part) {
      const std::size_t i = k * kParts + part;
      if constexpr (kEdge) at[part] = sources_[i] + (offset_ & keep_[i]);
      if constexpr (!kEdge) at[part] = sources_[i] + offset_;
    }
    return V::template load_parts<kParts>(at);
  }
  static void put(typename V::Bytes* target, typename V::Bytes ab, typename V::Bytes cd) {
    target[0] = V::unpack_low16(ab, cd);
    target[1] = V::unpack_high16(ab, cd);
  }

  typename V::Bytes padding_;
  std::uint64_t columns_;
  std::int64_t step_;
  std::int64_t column_;
  std::int64_t offset_;
  const std::uint8_t* sources_[kSources];
  std::int64_t keep_[kSources];
};

// A pass's weights for the first kRows rows of a group.
template <class V, class Shape, class Pass, std::size_t kRows>
class SlidingWeights {
 public:
  explicit SlidingWeights(const std::uint8_t* weights) : weights_(weights) {
    if constexpr (kHeld) {
#pragma GCC unroll 12
      for (std::size_t i = 0; i < kCount; ++i) {
        const std::size_t tap = i / kRows;
        held_[i] = V::load_weights(address(tap / Shape::kColumns / Shape::kQuads,
                                           tap / Shape::kColumns % Shape::kQuads, tap % Shape::kColumns, i % kRows));
      }
    }
  }

  typename V::Weights at(std::size_t j, std::size_t q, std::size_t column, std::size_t r) const {
    if constexpr (kHeld) return held_[((j * Shape::kQuads + q) * Shape::kColumns + column) * kRows + r];
    return V::load_weights(address(j, q, column, r));
  }

 private:
  static constexpr std::size_t kCount = Pass::kCount * Shape::kQuads * Shape::kColumns * kRows;
  // In registers, if there are enough for them beside a window and its sums.
  static constexpr bool kHeld = V::kBytes == 64 && V::kWeightBytes == V::kBytes && kCount <= 12;

  const std::uint8_t* address(std::size_t j, std::size_t q, std::size_t column, std::size_t r) const {
    const std::size_t tap = ((Pass::kFirst + j) * Shape::kQuads + q) * Shape::kColumns + column;
    return weights_ + (tap * Shape::kRows + r) * V::kWeightBytes;
  }

  const std::uint8_t* weights_;
  typename V::Weights held_[kHeld ? kCount : 1];
};

// Writes the codes of one row of an output of each part.
template <class V, class Shape, std::size_t kParts, bool kEdge>
void put_codes(typename V::Bytes codes, std::size_t r, std::uint8_t* y, const SlidingStrip& strip) {
  std::uint8_t* const target = y + static_cast<std::int64_t>(r) * strip.y_row_step;
  if constexpr (kParts == 1) {
    if (!kEdge || static_cast<std::int64_t>(r) < strip.rows) V::store_bytes(target, codes);
  } else {
    alignas(64) std::uint8_t bytes[V::kBytes];
    V::store_bytes(bytes, codes);
#pragma GCC unroll 4
    for (std::size_t part = 0; part < kParts; ++part) {
      const auto below = static_cast<std::int64_t>(part * Shape::kRows);
      if (kEdge && static_cast<std::int64_t>(r) + below >= strip.rows) continue;
      __builtin_memcpy(target + below * strip.y_row_step, bytes + part * (V::kBytes / kParts), V::kBytes / kParts);
    }
  }
}

// The first half leaves its codes in `words`, the second half completes them.
template <class V, class Shape, class Pass, class End, std::size_t kRows, std::size_t kParts, bool kEdge>
__attribute__((noinline)) void slide(const SlidingStrip& strip, const DepthwiseBlock& block, const ByteEnd<V>& bytes,
                                     std::uint8_t* words) {
  constexpr std::size_t kColumns = Shape::kColumns, kStride = Shape::kStride, kRegisters = Pass::kCount;
  const End end(bytes, block.start + Pass::kFirst * V::kBytes, block.deq + Pass::kFirst * V::kBytes);
  const SlidingWeights<V, Shape, Pass, kRows> weights(block.weights);
  SlidingReader<V, Shape, Pass, kParts, kEdge> reader(strip);
  std::uint8_t* y = strip.y;

  SlidingColumn<V, Shape, Pass> window[kColumns];
#pragma GCC unroll 8
  for (std::size_t k = kStride; k < kColumns; ++k) reader.next(window[k]);
  for (std::int64_t left = strip.count; left > 0; --left, y += strip.y_step) {
#pragma GCC unroll 8
    for (std::size_t k = 0; k + kStride < kColumns; ++k) window[k].take(window[k + kStride]);
#pragma GCC unroll 8
    for (std::size_t k = kColumns - kStride; k < kColumns; ++k) reader.next(window[k]);

    typename V::Ints sums[kRows][kRegisters];
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (std::size_t j = 0; j < kRegisters; ++j) sums[r][j] = end.start(j);
    }
#pragma GCC unroll 8
    for (std::size_t k = 0; k < kColumns; ++k) {
#pragma GCC unroll 2
      for (std::size_t q = 0; q < Shape::kQuads; ++q) {
#pragma GCC unroll 4
        for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
          for (std::size_t j = 0; j < kRegisters; ++j) {
            sums[r][j] = V::dot(sums[r][j], window[k].at[q][j], weights.at(j, q, k, r));
          }
        }
      }
    }
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto first = end.words(sums[r][0], sums[r][1], 0);
      if constexpr (kRegisters == 4) {
        const auto second = end.words(sums[r][2], sums[r][3], 2);
        put_codes<V, Shape, kParts, kEdge>(V::narrow_bytes(first, second), r, y, strip);
      } else if constexpr (Pass::kFirst == 0) {
        V::store_ints(words, first);
        words += V::kBytes;
      } else {
        put_codes<V, Shape, kParts, kEdge>(V::narrow_bytes(V::load_ints(words), first), r, y, strip);
        words += V::kBytes;
      }
    }
  }
}

// 32 registers instead of 16.
#ifdef __AVX512VL__
inline constexpr bool kManyRegisters = true;
#else
inline constexpr bool kManyRegisters = false;
#endif

template <class V>
class SlidingKernel {
 public:
  explicit SlidingKernel(const DepthwiseJob& job)
      : job_(job),
        bytes_(ByteEnd<V>::of(job.output.bytes)),
        usable_(job.output.pieces.take == nullptr && !job.clipped) {
    V::store_bytes(padding_, V::splat_byte(job.zero_point));
  }

  // Whether it could do the block.
  bool run(const DepthwiseBlock& block) {
    if (!usable_ || block.count != block.width) return false;
    return run_shape<SlidingShape<3, 1, 2, 1>>(block) || run_shape<SlidingShape<3, 2, 1, 1>>(block) ||
           run_shape<SlidingShape<5, 1, 4, 2>>(block) || run_shape<SlidingShape<5, 2, 2, 2>>(block);
  }

 private:
  template <class Shape>
  bool run_shape(const DepthwiseBlock& block) {
    // Half of a window, its sums and some more.
    if constexpr (V::kTiled && (kManyRegisters || 2 * Shape::kColumns * Shape::kQuads <= 8)) {
      if (!Shape::fits(job_)) return false;
      const auto step = static_cast<std::int64_t>(job_.group_rows * block.parts);
      for (std::int64_t row = job_.row_begin; row < job_.row_end; row += step) run_rows<Shape>(block, row);
      return true;
    }
    return false;
  }

  template <class Shape>
  void run_rows(const DepthwiseBlock& block, std::int64_t row) {
    SlidingStrip strip;
    const auto channels = static_cast<std::int64_t>(job_.channels);
    strip.rows = job_.row_end - row;
    const bool short_of_rows = strip.rows < static_cast<std::int64_t>(Shape::kRows * block.parts);
    const bool edge = seek<Shape>(block, row, strip) || short_of_rows;
    strip.columns = job_.in[2];
    strip.column_step = job_.x_steps[2];
    strip.zero_point = job_.zero_point;
    strip.y_step = job_.y_steps[2] * channels;
    strip.y_row_step = job_.y_steps[1] * channels;
    const std::int64_t begin = job_.position + job_.depth * job_.y_steps[0] + row * job_.y_steps[1];
    std::uint8_t* const y = job_.output.bytes.y + begin * channels + static_cast<std::int64_t>(block.first);
    // All strips about equally long.
    constexpr std::int64_t kMost = kSlidingOutputs / (Shape::kRows * Shape::kStride);
    const std::int64_t strips = (job_.out[2] + kMost - 1) / kMost;
    const std::int64_t count = (job_.out[2] + strips - 1) / strips;
    for (std::int64_t x = 0; x < job_.out[2]; x += count) {
      strip.first = x * job_.strides[2] - job_.pads_begin[2];
      strip.count = count < job_.out[2] - x ? count : job_.out[2] - x;
      strip.y = y + x * strip.y_step;
      run_strip<Shape>(block, strip, edge);
    }
  }

  // Whether a row is padding.
  template <class Shape>
  bool seek(const DepthwiseBlock& block, std::int64_t row, SlidingStrip& strip) const {
    bool padded = false;
    for (std::size_t k = 0; k < 4 * Shape::kQuads; ++k) {
      for (std::size_t part = 0; part < block.parts; ++part) {
        const std::int64_t first_row = row + static_cast<std::int64_t>(part * Shape::kRows);
        const RowSource source = row_source(job_, block, first_row, job_.rows[k], padding_);
        strip.sources[k * block.parts + part] = source.at;
        strip.keep[k * block.parts + part] = source.step == 0 ? 0 : -1;
        padded = padded || source.step == 0;
      }
    }
    return padded;
  }

  template <class Shape>
  void run_strip(const DepthwiseBlock& block, const SlidingStrip& strip, bool edge) {
    if constexpr (V::kBytes == 64) {
      if (block.parts == 4) return run_parts<Shape, 4>(block, strip, edge);
    }
    if constexpr (V::kBytes >= 32) {
      if (block.parts == 2) return run_parts<Shape, 2>(block, strip, edge);
    }
    if constexpr (Shape::kRows > 2) {
      if (strip.rows <= 2) return run_passes<Shape, 2, 1, true>(block, strip);
    }
    run_parts<Shape, 1>(block, strip, edge);
  }

  template <class Shape, std::size_t kParts>
  void run_parts(const DepthwiseBlock& block, const SlidingStrip& strip, bool edge) {
    if (edge) return run_passes<Shape, Shape::kRows, kParts, true>(block, strip);
    run_passes<Shape, Shape::kRows, kParts, false>(block, strip);
  }

  template <class Shape, std::size_t kRows, std::size_t kParts, bool kEdge>
  void run_passes(const DepthwiseBlock& block, const SlidingStrip& strip) {
    if constexpr (kManyRegisters && Shape::kColumns * Shape::kQuads <= 4) {
      run_pass<Shape, SlidingPass<0, 4>, kRows, kParts, kEdge>(block, strip);
    } else {
      run_pass<Shape, SlidingPass<0, 2>, kRows, kParts, kEdge>(block, strip);
      run_pass<Shape, SlidingPass<2, 2>, kRows, kParts, kEdge>(block, strip);
    }
  }

  template <class Shape, class Pass, std::size_t kRows, std::size_t kParts, bool kEdge>
  void run_pass(const DepthwiseBlock& block, const SlidingStrip& strip) {
    using FromZero = FromZeroEnd<V, Pass::kCount>;
    if constexpr (FromZero::kUsable) {
      if (job_.from_zero) {
        return slide<V, Shape, Pass, FromZero, kRows, kParts, kEdge>(strip, block, bytes_, words_);
      }
    }
    slide<V, Shape, Pass, SaturatingEnd<V, Pass::kCount>, kRows, kParts, kEdge>(strip, block, bytes_, words_);
  }

  const DepthwiseJob& job_;
  ByteEnd<V> bytes_;
  bool usable_;
  alignas(64) std::uint8_t padding_[V::kBytes];
  alignas(64) std::uint8_t words_[kSlidingOutputs * V::kBytes];
};

}  // namespace
}  // namespace ort_quant
