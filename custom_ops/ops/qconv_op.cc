#include "qconv_op.h"

#include <cmath>
#include <string>

#include "attributes.h"

namespace ort_quant {
namespace {

constexpr std::size_t kWeights = 1, kDeq = 2, kBias = 3, kChannelConstants = 4;

Tensor<const std::int8_t> read_weights(const KernelInfo& info) {
  auto weights = info.constant_input<std::int8_t>(kWeights, "w");
  const std::size_t rank = weights.shape.size();
  if (rank < 3 || rank > 2 + kMaxSpatialRank || weights.values.empty()) {
    throw OpError("input 'w' has shape " + to_string(weights.shape) +
                  ", expected two channel sizes and one to three kernel sizes, none of them 0. Leave this layer "
                  "unquantized.");
  }
  checked_count(weights.shape, "input 'w'");
  return weights;
}

Window read_kernel_window(const KernelInfo& info, const Shape& weights) {
  const Shape kernel(weights.begin() + 2, weights.end());
  return read_window(info, &kernel);
}

// ONNX's weights are [M, C/group, …]; those of ConvTranspose [C, M/group, …].
ConvShape read_shape(const KernelInfo& info, const Shape& weights, const Window& window, bool transposed) {
  const std::int64_t group = read_int(info, "group", 1, 1, kMaxElements - 1, kCorrectModel);
  if (weights[0] % group != 0) {
    refuse_attribute("group", std::to_string(group),
                     "a divisor of " + std::to_string(weights[0]) + ", the first size of input 'w' " +
                         to_string(weights),
                     kCorrectModel);
  }
  ConvShape shape;
  shape.channels_in = static_cast<std::size_t>(transposed ? weights[0] : weights[1] * group);
  shape.channels_out = static_cast<std::size_t>(transposed ? weights[1] * group : weights[0]);
  shape.group = static_cast<std::size_t>(group);
  shape.kernel = to_dims(window.kernel);
  shape.strides = to_dims(window.strides);
  shape.dilations = to_dims(window.dilations);
  shape.transposed = transposed;
  return shape;
}

Axes read_output_padding(const KernelInfo& info, const Window& window) {
  const Axes padding = read_axes(info, "output_padding", window.rank, 0, 0);
  for (std::size_t axis = kMaxSpatialRank - window.rank; axis < kMaxSpatialRank; ++axis) {
    if (padding[axis] == 0 || padding[axis] < std::max(window.strides[axis], window.dilations[axis])) continue;
    refuse_attribute("output_padding", std::to_string(padding[axis]) + " on one axis",
                     "less than the stride or the dilation of that axis", kCorrectModel);
  }
  return padding;
}

}  // namespace

Span<const float> read_deq(const KernelInfo& info, std::size_t input, std::size_t channels) {
  const auto deq = info.constant_input<float>(input, "deq");
  if (deq.shape.size() > 1 || (deq.values.size != 1 && deq.values.size != channels)) {
    throw OpError("input 'deq' has shape " + to_string(deq.shape) + ", expected [1] or [" + std::to_string(channels) +
                  "], one value per output channel. Export the model again.");
  }
  for (float value : deq.values) {
    if (std::isfinite(value)) continue;
    throw OpError("input 'deq' holds " + to_text(value) +
                  ", expected finite numbers. Correct the record file and export the model again.");
  }
  return deq.values;
}

Span<const std::int32_t> read_bias(const KernelInfo& info, std::size_t input, std::size_t channels) {
  if (!info.has_input(input)) return {nullptr, 0};
  const auto bias = info.constant_input<std::int32_t>(input, "bias");
  if (bias.shape.size() != 1 || bias.values.size != channels) {
    throw OpError("input 'bias' has shape " + to_string(bias.shape) + ", expected [" + std::to_string(channels) +
                  "], one value per output channel. Export the model again.");
  }
  return bias.values;
}

std::vector<ONNXTensorElementDataType> ConvOp::input_types() {
  constexpr auto kFloat = ElementType<float>::value;
  return {ElementType<std::uint8_t>::value, ElementType<std::int8_t>::value, kFloat,
          ElementType<std::int32_t>::value, kFloat,                          kFloat, kFloat};
}

ConvNode::ConvNode(const KernelInfo& info, bool transposed)
    : weights_(read_weights(info)),
      window_(read_kernel_window(info, weights_.shape)),
      shape_(read_shape(info, weights_.shape, window_, transposed)),
      outputs_(info, kChannelConstants, shape_.channels_out) {
  if (!transposed) return;
  output_padding_ = read_output_padding(info, window_);
  if (info.optional_ints("output_shape")) output_shape_ = read_axes(info, "output_shape", window_.rank, 1, 1);
}

PackedConv ConvNode::pack(const KernelInfo& info, const KernelTable& kernels) const {
  return PackedConv(shape_, weights_.values, read_deq(info, kDeq, shape_.channels_out),
                    read_bias(info, kBias, shape_.channels_out), read_code_offset(info, "x_offset"),
                    outputs_.epilogue(), outputs_.spec(), kernels);
}

Placement ConvNode::place_on(const Shape& x) const {
  const Axes in = spatial_sizes(x, window_.rank);
  const Placement placement = !shape_.transposed ? place(window_, in, false)
                                                 : place_transposed(window_, in, output_padding_,
                                                                    output_shape_ ? &*output_shape_ : nullptr);
  if (static_cast<std::size_t>(x.back()) != shape_.channels_in) {
    throw OpError("input 'x' has shape " + to_string(x) + ", expected " + std::to_string(shape_.channels_in) +
                  " channels in its last dimension, as input 'w' " + to_string(weights_.shape) +
                  " has. Check the layout: activations are channels last here.");
  }
  return placement;
}

Shape ConvNode::output_shape(std::int64_t batch, const Placement& placement) const {
  return ort_quant::output_shape(batch, placement, window_.rank, static_cast<std::int64_t>(shape_.channels_out));
}

ConvOutputs::ConvOutputs(const QuantizedOutputs& outputs, const KernelContext& context, const Shape& shape)
    : tensors_(outputs.make(context, shape)) {
  if (tensors_.y_float == nullptr || tensors_.y_float != tensors_.residuals[0] ||
      outputs.spec().float_layout != FloatLayout::kChannelsFirst) {
    return;
  }
  residual_.assign(tensors_.y_float, tensors_.y_float + checked_count(shape, "the output"));
  tensors_.residuals[0] = residual_.data();
}

ConvOp::ConvOp(const KernelInfo& info, const KernelTable& kernels, bool transposed)
    : node_(info, transposed), packed_(node_.pack(info, kernels)) {}

void ConvOp::compute(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  const Placement placement = node_.place_on(x.shape);
  const ConvOutputs outputs(node_.outputs(), context, node_.output_shape(x.shape[0], placement));
  if (x.shape[0] > 0) {
    packed_.run(to_geometry(x.shape[0], placement), x.values.data, outputs.tensors(), context.for_each());
  }
}

}  // namespace ort_quant
