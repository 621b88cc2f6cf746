// The interleaved input columns of depthwise_job.h, at hand for a tile of outputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "depthwise_job.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

// A list row. Padding is the same in all columns: its step is 0.
struct RowSource {
  const std::uint8_t* at;
  std::int64_t step;
};

// A list row of the group whose first output row is `first_row`, from input column 0 on.
inline RowSource row_source(const DepthwiseJob& job, const DepthwiseBlock& block, std::int64_t first_row,
                            const DepthwiseRow& tap, const std::uint8_t* padding) {
  const std::int64_t depth = job.depth * job.strides[0] - job.pads_begin[0] + tap.depth;
  const std::int64_t row = first_row * job.strides[1] - job.pads_begin[1] + tap.row;
  if (depth < 0 || depth >= job.in[0] || row < 0 || row >= job.in[1]) return {padding, 0};
  const std::int64_t place = depth * job.x_steps[0] + row * job.x_steps[1];
  return {job.x + place + block.first, job.x_steps[2]};
}

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
        sources_[k * block.parts + part] = row_source(job_, block, first_row, job_.rows[k], padding_);
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

}  // namespace
}  // namespace ort_quant
