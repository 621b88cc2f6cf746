#include "integer_products.h"

#include <algorithm>
#include <exception>
#include <mutex>

namespace ort_quant {
namespace {

// Products of one row with kColumns columns. The sum of a block stays below 2^31; blocks are added modulo 2^32.
template <std::size_t kColumns>
void multiply_row(const std::int16_t* a, const std::int16_t* b, std::size_t depth, std::uint32_t* sums) {
  constexpr std::size_t kBlock = 32768;
  for (std::size_t column = 0; column < kColumns; ++column) sums[column] = 0;
  for (std::size_t begin = 0; begin < depth; begin += kBlock) {
    const std::size_t end = std::min(depth, begin + kBlock);
    std::int32_t parts[kColumns] = {};
    for (std::size_t k = begin; k < end; ++k) {
      for (std::size_t column = 0; column < kColumns; ++column) {
        parts[column] += static_cast<std::int32_t>(a[k]) * static_cast<std::int32_t>(b[column * depth + k]);
      }
    }
    for (std::size_t column = 0; column < kColumns; ++column) sums[column] += static_cast<std::uint32_t>(parts[column]);
  }
}

template <std::size_t kColumns>
void multiply_columns(const ShortMatrix& a, const ShortMatrix& b, const ProductRange& range, std::size_t column,
                      const std::int32_t* start, std::int32_t* y, std::size_t row_stride, std::size_t column_stride) {
  std::uint32_t sums[kColumns];
  for (std::size_t row = range.first_row; row < range.last_row; ++row) {
    multiply_row<kColumns>(a.row(row), b.row(column), a.stride(), sums);
    for (std::size_t i = 0; i < kColumns; ++i) {
      const std::uint32_t first = start == nullptr ? 0 : static_cast<std::uint32_t>(start[column + i]);
      y[row * row_stride + (column + i) * column_stride] = static_cast<std::int32_t>(first + sums[i]);
    }
  }
}

}  // namespace

void multiply(const ShortMatrix& a, const ShortMatrix& b, const ProductRange& range, const std::int32_t* start,
              std::int32_t* y, std::size_t row_stride, std::size_t column_stride) {
  constexpr std::size_t kTile = 4;
  std::size_t column = range.first_column;
  for (; column + kTile <= range.last_column; column += kTile) {
    multiply_columns<kTile>(a, b, range, column, start, y, row_stride, column_stride);
  }
  for (; column < range.last_column; ++column) {
    multiply_columns<1>(a, b, range, column, start, y, row_stride, column_stride);
  }
}

void parallel_tasks(const KernelContext& context, std::size_t count, const std::function<void(std::size_t)>& body) {
  std::mutex mutex;
  std::exception_ptr first;
  context.parallel_for(count, [&](std::size_t index) {
    try {
      body(index);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!first) first = std::current_exception();
    }
  });
  if (first) std::rethrow_exception(first);
}

}  // namespace ort_quant
