// QAdd: the sum of two quantized tensors, with the end of QConv.
#pragma once

#include <vector>

#include "custom_op.h"
#include "layout.h"
#include "ort.h"
#include "quantized_outputs.h"

namespace ort_quant {

// Inputs: a and b, uint8, of one shape; channel_constants float [rows, C] (C: the last dimension); r0 and r1, float, of
// that shape. Attributes: a_scale and b_scale (scale_d, required), a_offset and b_offset (0), and those of
// QuantizedOutputs. y = (a − 128 − a_offset)·a_scale + (b − 128 − b_offset)·b_scale, then the epilogue.
class QAdd {
 public:
  static constexpr const char* kName = "QAdd";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 0;
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return QuantizedOutputs::output_types(); }

  QAdd(const KernelInfo& info, const KernelTable& kernels);
  void compute(const KernelContext& context) const;

 private:
  ByteDequantizer of_a_;
  ByteDequantizer of_b_;
  QuantizedOutputs outputs_;
  const KernelTable& kernels_;
};

}  // namespace ort_quant
