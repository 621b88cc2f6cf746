// QConvChain: two or three convolutions, each the only reader of the one before it.
#pragma once

#include <cstddef>
#include <vector>

#include "qchain.h"
#include "qconv_op.h"

namespace ort_quant {

// Inputs: x uint8 [N, H, W, C]; for stage s from 1 + 4·s on w, deq, bias and channel_constants, as those of QConv; r0
// and r1 of the last stage. A third stage that does not exist has no w. Attributes: those of QConv, of stage s with the
// prefix "stage<s>_". Outputs: those of the last stage; the others have y alone.
class QConvChain {
 public:
  static constexpr const char* kName = "QConvChain";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 3;
  static constexpr std::size_t kRequiredOutputs = 0;
  static constexpr InPlace kInPlace{13, 1};  // r0 and y_float: the skip connection of residual blocks
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return QuantizedOutputs::output_types(); }

  QConvChain(const KernelInfo& info, const KernelTable& kernels);
  void compute(const KernelContext& context) const;

 private:
  static ConvChain pack(const KernelInfo& info, const KernelTable& kernels, std::vector<ConvNode>& nodes);

  std::vector<ConvNode> nodes_;
  ConvChain chain_;
};

}  // namespace ort_quant
