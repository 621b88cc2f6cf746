// QGemm: matrix product of quantized activations and constant weights, with the end of QConv.
#pragma once

#include <vector>

#include "custom_op.h"
#include "ort.h"
#include "qconv.h"
#include "quantized_outputs.h"

namespace ort_quant {

// Inputs: x uint8 [..., K]; w int8 [K, N]; deq float [N] or [1]; bias int32 [N]; channel_constants float [rows, N]; r0
// and r1, float [..., N]. Attributes: x_offset and those of QuantizedOutputs.
class QGemm {
 public:
  static constexpr const char* kName = "QGemm";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 3;
  static constexpr std::size_t kRequiredOutputs = 0;
  static constexpr InPlace kInPlace{5, 1};  // r0 and y_float: the skip connection of residual blocks
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return QuantizedOutputs::output_types(); }

  QGemm(const KernelInfo& info, const KernelTable& kernels);
  void compute(const KernelContext& context) const;

 private:
  Tensor<const std::int8_t> weights_;
  QuantizedOutputs outputs_;
  PackedConv packed_;
};

}  // namespace ort_quant
