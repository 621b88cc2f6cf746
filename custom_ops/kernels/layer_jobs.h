// What the pooling, addition and layout kernels of an instruction set are given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_output.h"

namespace ort_quant {

// Output rows [row_begin, row_end) of a pool, a row being the outputs that differ only in the last dimension. Sizes are
// those of depth, row, column.
struct PoolJob {
  const std::uint8_t* x;
  std::uint8_t* y;  // of max_pool
  std::size_t channels;
  std::int64_t in[3];
  std::int64_t out[3];
  std::int64_t kernel[3];
  std::int64_t strides[3];
  std::int64_t dilations[3];
  std::int64_t pads_begin[3];
  std::size_t row_begin;  // counted over batch, depth and row
  std::size_t row_end;
};

struct AverageJob {
  std::uint8_t zero_point;
  float deq;
  // Positions of dimension d below counted_from[d] or from counted_to[d] on are left out of the number of values.
  std::int64_t counted_from[3];
  std::int64_t counted_to[3];
};

struct AddJob {
  const std::uint8_t* a;
  const std::uint8_t* b;
  float a_scale;
  float b_scale;
  std::int32_t a_zero_point;
  std::int32_t b_zero_point;
  std::size_t begin;  // values [begin, end)
  std::size_t end;
  std::size_t channels;
};

// Positions [begin, end) of one image: `channels` values each, `plane` apart where channels come first.
struct PlanesJob {
  std::size_t channels;
  std::size_t plane;
  std::size_t begin;
  std::size_t end;
};

}  // namespace ort_quant
