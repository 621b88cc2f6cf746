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

// Inputs: x uint8 [N, spatial…, C]; w int8, as ONNX lays it out; deq float [M] or [1]; bias int32 [M];
// channel_constants float [rows, M]; r0 and r1, float, of the output's shape. Attributes: ONNX's of Conv or
// ConvTranspose, x_offset, and those of QuantizedOutputs.
class ConvOp {
 public:
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 3;
  static constexpr std::size_t kRequiredOutputs = 0;
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return QuantizedOutputs::output_types(); }

  ConvOp(const KernelInfo& info, const KernelTable& kernels, bool transposed);
  void compute(const KernelContext& context) const;

 private:
  Placement place_on(const Axes& in) const;

  Tensor<const std::int8_t> weights_;
  Window window_;
  Axes output_padding_{0, 0, 0};
  std::optional<Axes> output_shape_;
  ConvShape shape_;
  QuantizedOutputs outputs_;
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
