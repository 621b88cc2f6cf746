// Products of integer matrices with 32-bit sums.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ort.h"

namespace ort_quant {

// Rows of 16-bit integers, each filled up with zeros to a whole number of vectors, at least one.
class ShortMatrix {
 public:
  ShortMatrix(std::size_t rows, std::size_t depth)
      : rows_(rows),
        stride_(std::max<std::size_t>(1, (depth + kLanes - 1) / kLanes) * kLanes),
        values_(rows * stride_) {}

  std::int16_t* row(std::size_t index) { return values_.data() + index * stride_; }
  const std::int16_t* row(std::size_t index) const { return values_.data() + index * stride_; }
  std::size_t rows() const { return rows_; }
  std::size_t stride() const { return stride_; }

 private:
  static constexpr std::size_t kLanes = 16;

  std::size_t rows_;
  std::size_t stride_;
  std::vector<std::int16_t> values_;
};

// Up to, but without, the last.
struct ProductRange {
  std::size_t first_row;
  std::size_t last_row;
  std::size_t first_column;
  std::size_t last_column;
};

// y[r·row_stride + c·column_stride] = start[c] + Σ_k a[r][k]·b[c][k] for a range of rows r and columns c. Sums wrap
// around. Values lie in [−255, 255]. `start` is null for zeros.

void multiply(const ShortMatrix& a, const ShortMatrix& b, const ProductRange& range, const std::int32_t* start,
              std::int32_t* y, std::size_t row_stride, std::size_t column_stride);

// parallel_for for bodies that may throw; the first error is thrown again in the caller's thread.
void parallel_tasks(const KernelContext& context, std::size_t count, const std::function<void(std::size_t)>& body);

}  // namespace ort_quant
