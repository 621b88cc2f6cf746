// QConv and QConvTranspose: convolution of quantized activations with its dequantization, element-wise steps and
// quantization.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "custom_op.h"
#include "ort.h"
#include "qconv.h"
#include "quantized_outputs.h"
#include "sliding_window.h"

namespace ort_quant {

// deq of 1 or `channels` values, each finite, and bias of `channels` values (none where the input is left out).
Span<const float> read_deq(const KernelInfo& info, std::size_t input, std::size_t channels);
Span<const std::int32_t> read_bias(const KernelInfo& info, std::size_t input, std::size_t channels);

// A convolution as its node describes it.
// Inputs: x uint8 [N, spatial…, C]; w int8, as ONNX lays it out; deq float [M] or [1]; bias int32 [M];
// channel_constants float [rows, M]; r0 and r1, float, of the output's shape. Attributes: ONNX's of Conv or
// ConvTranspose, x_offset, and those of QuantizedOutputs.
class ConvNode {
 public:
  ConvNode(const KernelInfo& info, bool transposed);

  PackedConv pack(const KernelInfo& info, const KernelTable& kernels) const;

  std::size_t rank() const { return window_.rank; }
  const ConvShape& shape() const { return shape_; }
  const QuantizedOutputs& outputs() const { return outputs_; }

  // Where it stands on an input of that shape, which it checks.
  Placement place_on(const Shape& x) const;
  Shape output_shape(std::int64_t batch, const Placement& placement) const;

 private:
  Tensor<const std::int8_t> weights_;
  Window window_;
  Axes output_padding_{0, 0, 0};
  std::optional<Axes> output_shape_;
  ConvShape shape_;
  QuantizedOutputs outputs_;
};

// The outputs of a run; a residual that is overwritten before it has been read is kept.
class ConvOutputs {
 public:
  ConvOutputs(const QuantizedOutputs& outputs, const KernelContext& context, const Shape& shape);

  const OutputTensors& tensors() const { return tensors_; }

 private:
  OutputTensors tensors_;
  std::vector<float> residual_;
};

class ConvOp {
 public:
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 3;
  static constexpr std::size_t kRequiredOutputs = 0;
  static constexpr InPlace kInPlace{5, 1};  // r0 and y_float: the skip connection of residual blocks
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return QuantizedOutputs::output_types(); }

  ConvOp(const KernelInfo& info, const KernelTable& kernels, bool transposed);
  void compute(const KernelContext& context) const;

 private:
  ConvNode node_;
  PackedConv packed_;
};

struct QConv : ConvOp {
  static constexpr const char* kName = "QConv";
  QConv(const KernelInfo& info, const KernelTable& kernels) : ConvOp(info, kernels, false) {}
};

struct QConvTranspose : ConvOp {
  static constexpr const char* kName = "QConvTranspose";
  QConvTranspose(const KernelInfo& info, const KernelTable& kernels) : ConvOp(info, kernels, true) {}
};

}  // namespace ort_quant
