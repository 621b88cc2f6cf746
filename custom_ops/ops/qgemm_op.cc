#include "qgemm_op.h"

#include <string>

#include "qconv_op.h"
#include "sliding_window.h"

namespace ort_quant {
namespace {

constexpr std::size_t kWeights = 1, kDeq = 2, kBias = 3, kChannelConstants = 4;

Tensor<const std::int8_t> read_matrix(const KernelInfo& info) {
  auto weights = info.constant_input<std::int8_t>(kWeights, "w");
  if (weights.shape.size() != 2 || weights.values.empty()) {
    throw OpError("input 'w' has shape " + to_string(weights.shape) +
                  ", expected [K, N], neither of them 0. Leave this layer unquantized.");
  }
  checked_count(weights.shape, "input 'w'");
  return weights;
}

// A transposed convolution of one pixel has its weights as [C, M], just as a matrix product.
ConvShape shape_of(const Shape& weights) {
  ConvShape shape;
  shape.channels_in = static_cast<std::size_t>(weights[0]);
  shape.channels_out = static_cast<std::size_t>(weights[1]);
  shape.transposed = true;
  return shape;
}

std::size_t columns(const Tensor<const std::int8_t>& weights) { return static_cast<std::size_t>(weights.shape[1]); }

}  // namespace

std::vector<ONNXTensorElementDataType> QGemm::input_types() { return ConvOp::input_types(); }

QGemm::QGemm(const KernelInfo& info, const KernelTable& kernels)
    : weights_(read_matrix(info)),
      outputs_(info, kChannelConstants, columns(weights_), /*has_planes=*/false),
      packed_(shape_of(weights_.shape), weights_.values, read_deq(info, kDeq, columns(weights_)),
              read_bias(info, kBias, columns(weights_)), read_code_offset(info, "x_offset"), outputs_.epilogue(),
              outputs_.spec(), kernels) {}

void QGemm::compute(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  if (x.shape.empty() || x.shape.back() != weights_.shape[0]) {
    throw OpError("input 'x' has shape " + to_string(x.shape) + ", expected [..., " +
                  std::to_string(weights_.shape[0]) + "], the first size of input 'w' " + to_string(weights_.shape) +
                  ". Transpose or flatten it.");
  }
  const std::size_t count = checked_count(x.shape, "input 'x'");
  Shape shape = x.shape;
  shape.back() = weights_.shape[1];
  const OutputTensors outputs = outputs_.make(context, shape);
  ConvGeometry geometry;
  geometry.batch = count / static_cast<std::size_t>(weights_.shape[0]);
  if (count > 0) packed_.run(geometry, x.values.data, outputs, context.for_each());
}

}  // namespace ort_quant
