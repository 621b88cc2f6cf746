// QPool: max, average and global average pooling of quantized activations.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "custom_op.h"
#include "ort.h"
#include "quantized_outputs.h"
#include "sliding_window.h"

namespace ort_quant {

// Inputs: x uint8 [N, spatial…, C]; deq float [1] (not with mode "max"); channel_constants float [rows, C]; r0 and r1,
// float, of the output's shape. Attributes: mode ("max", "average", "global_average"); ONNX's of MaxPool or AveragePool;
// x_offset and those of QuantizedOutputs (not with mode "max", which keeps the quantization of x).
class QPool {
 public:
  static constexpr const char* kName = "QPool";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 1;
  static constexpr std::size_t kRequiredOutputs = 0;
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return QuantizedOutputs::output_types(); }

  QPool(const KernelInfo& info, const KernelTable& kernels);
  void compute(const KernelContext& context) const;

 private:
  enum class Mode { kMax, kAverage, kGlobalAverage };

  static Mode read_mode(const KernelInfo& info);
  void read_averaging(const KernelInfo& info);
  void compute_max(const KernelContext& context) const;
  void compute_average(const KernelContext& context) const;
  void compute_global_average(const KernelContext& context) const;

  Mode mode_;
  Window window_;
  bool ceil_mode_ = false;
  bool count_include_pad_ = false;
  float deq_ = 1.0f;
  std::int32_t x_offset_ = 0;
  std::optional<QuantizedOutputs> outputs_;
  const KernelTable& kernels_;
};

}  // namespace ort_quant
