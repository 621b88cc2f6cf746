#include "matrix_ops.h"

#include <algorithm>

#include "attributes.h"
#include "integer_products.h"
#include "sliding_window.h"

namespace ort_quant {
namespace {

[[noreturn]] void refuse_shapes(const Shape& a, const Shape& b, const char* expected) {
  throw OpError("input 'A' has shape " + to_string(a) + " and input 'B' " + to_string(b) + ", expected " + expected +
                ". Correct the shapes of the model.");
}

void read_unit(const KernelInfo& info, const char* name) {
  const float value = info.attribute(name, 1.0f);
  if (value != 1.0f) {
    refuse_attribute(name, to_text(value), "1 for int8 matrices", "Leave this layer unquantized (skip_layers).");
  }
}

std::size_t size_at(const Shape& shape, std::size_t from_back) {
  return static_cast<std::size_t>(shape[shape.size() - from_back]);
}

// A matrix of int8 [rows, depth], or [depth, rows] if transposed, as rows less an offset.
ShortMatrix short_rows(const std::int8_t* values, std::size_t rows, std::size_t depth, bool transposed, int offset) {
  ShortMatrix matrix(rows, depth);
  for (std::size_t r = 0; r < rows; ++r) {
    std::int16_t* row = matrix.row(r);
    const std::int8_t* source = transposed ? values + r : values + r * depth;
    const std::size_t step = transposed ? rows : 1;
    for (std::size_t k = 0; k < depth; ++k) row[k] = static_cast<std::int16_t>(source[k * step] - offset);
  }
  return matrix;
}

void multiply_all(const KernelContext& context, const ShortMatrix& a, const ShortMatrix& b, std::int32_t* y) {
  constexpr std::size_t kTile = 64;
  const std::size_t across = (b.rows() + kTile - 1) / kTile;
  context.parallel_for((a.rows() + kTile - 1) / kTile * across, [&](std::size_t task) {
    const std::size_t row = task / across * kTile, column = task % across * kTile;
    multiply(a, b, {row, std::min(a.rows(), row + kTile), column, std::min(b.rows(), column + kTile)}, nullptr, y,
             b.rows(), 1);
  });
}

// The shape with which a matrix product sees an operand: a vector becomes a row (left) or a column (right).
Shape as_matrix(Shape shape, bool left) {
  if (shape.size() == 1) shape.insert(left ? shape.begin() : shape.end(), 1);
  return shape;
}

// Adds bias of a shape that broadcasts to [rows, columns].
void add_broadcast(const Tensor<const std::int32_t>& bias, std::size_t rows, std::size_t columns, std::int32_t* y) {
  const Shape& shape = bias.shape;
  const std::size_t width = shape.empty() ? 1 : size_at(shape, 1), height = shape.size() < 2 ? 1 : size_at(shape, 2);
  if (shape.size() > 2 || (width != 1 && width != columns) || (height != 1 && height != rows)) {
    throw OpError("input 'C' has shape " + to_string(shape) + ", expected one that broadcasts to [" +
                  std::to_string(rows) + "," + std::to_string(columns) + "]. Export the model again.");
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const std::int32_t* row = bias.values.data + (height == 1 ? 0 : r * width);
    for (std::size_t c = 0; c < columns; ++c) {
      const auto added = static_cast<std::uint32_t>(row[width == 1 ? 0 : c]);
      std::int32_t& sum = y[r * columns + c];
      sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + added);
    }
  }
}

}  // namespace

Shape gemm_shape(const Shape& a, const Shape& b, bool trans_a, bool trans_b) {
  if (a.size() != 2 || b.size() != 2) refuse_shapes(a, b, "two dimensions each");
  if (a[trans_a ? 0 : 1] != b[trans_b ? 1 : 0]) refuse_shapes(a, b, "a common inner size");
  return {a[trans_a ? 1 : 0], b[trans_b ? 0 : 1]};
}

Shape matmul_shape(const Shape& a, const Shape& b) {
  if (a.empty() || b.empty()) refuse_shapes(a, b, "at least one dimension each");
  const Shape left = as_matrix(a, true), right = as_matrix(b, false);
  if (left.back() != right[right.size() - 2]) refuse_shapes(a, b, "a common inner size");
  Shape shape(std::max(left.size(), right.size()) - 2);
  for (std::size_t i = 1; i <= shape.size(); ++i) {
    const std::int64_t l = i + 2 > left.size() ? 1 : left[left.size() - 2 - i];
    const std::int64_t r = i + 2 > right.size() ? 1 : right[right.size() - 2 - i];
    if (l != r && l != 1 && r != 1) refuse_shapes(a, b, "batch sizes that broadcast");
    shape[shape.size() - i] = l == 1 ? r : l;
  }
  if (a.size() > 1) shape.push_back(left[left.size() - 2]);
  if (b.size() > 1) shape.push_back(right.back());
  return shape;
}

IntegerGemm::IntegerGemm(const KernelInfo& info, const KernelTable&)
    : offset_(activation_offset(info, 0)),
      weight_offset_(weight_offset(info)),
      trans_a_(info.attribute("transA", std::int64_t{0}) != 0),
      trans_b_(info.attribute("transB", std::int64_t{0}) != 0),
      has_bias_(info.has_input(2)) {
  read_unit(info, "alpha");
  if (has_bias_) read_unit(info, "beta");
}

void IntegerGemm::compute(const KernelContext& context) const {
  const auto a = context.input<std::int8_t>(0), b = context.input<std::int8_t>(1);
  const Shape shape = gemm_shape(a.shape, b.shape, trans_a_, trans_b_);
  checked_count(shape, "output 'Y'");
  const auto rows = static_cast<std::size_t>(shape[0]), columns = static_cast<std::size_t>(shape[1]);
  const auto depth = static_cast<std::size_t>(a.shape[trans_a_ ? 0 : 1]);
  const Span<std::int32_t> y = context.output<std::int32_t>(0, shape);
  multiply_all(context, short_rows(a.values.data, rows, depth, trans_a_, offset_),
               short_rows(b.values.data, columns, depth, !trans_b_, weight_offset_), y.data);
  if (has_bias_) add_broadcast(context.input<std::int32_t>(2), rows, columns, y.data);
}

void IntegerMatMul::compute(const KernelContext& context) const {
  const auto a = context.input<std::int8_t>(0), b = context.input<std::int8_t>(1);
  const Shape shape = matmul_shape(a.shape, b.shape);
  checked_count(shape, "output 'Y'");
  const Span<std::int32_t> y = context.output<std::int32_t>(0, shape);
  const Shape left = as_matrix(a.shape, true), right = as_matrix(b.shape, false);
  const std::size_t rows = size_at(left, 2), depth = size_at(left, 1), columns = size_at(right, 1);
  if (y.empty()) return;
  if (right.size() == 2) {  // one matrix on the right: the rows of all batches are rows of one product
    multiply_all(context, short_rows(a.values.data, y.size / columns, depth, false, offset_),
                 short_rows(b.values.data, columns, depth, true, weight_offset_), y.data);
    return;
  }
  const std::size_t batches = y.size / (rows * columns);
  for (std::size_t batch = 0; batch < batches; ++batch) {
    // The matrix of each operand that belongs to this batch: axes of size 1 do not advance.
    std::size_t place[2] = {0, 0}, rest = batch, step[2] = {1, 1};
    for (std::size_t i = 3; i <= std::max(left.size(), right.size()); ++i) {
      const std::size_t sizes[2] = {i > left.size() ? 1 : size_at(left, i), i > right.size() ? 1 : size_at(right, i)};
      const std::size_t size = std::max(sizes[0], sizes[1]), index = rest % size;
      rest /= size;
      for (int side = 0; side < 2; ++side) {
        if (sizes[side] != 1) place[side] += index * step[side];
        step[side] *= sizes[side];
      }
    }
    multiply_all(context, short_rows(a.values.data + place[0] * rows * depth, rows, depth, false, offset_),
                 short_rows(b.values.data + place[1] * depth * columns, columns, depth, true, weight_offset_),
                 y.data + batch * rows * columns);
  }
}

}  // namespace ort_quant
