// QuantizeLayout and DequantizeLayout: the borders of a quantized region.
#pragma once

#include <vector>

#include "custom_op.h"
#include "layout.h"
#include "ort.h"

namespace ort_quant {

// Attributes scale (required), offset (0) and layout: channels_first (true) or same.
struct LayoutSettings {
  LayoutSettings(const KernelInfo& info, const char* meaning_of_scale);

  float scale;
  std::int32_t offset;
  bool channels_first;
};

// x float [N, C, spatial…] → uint8 [N, spatial…, C]; with layout "same" any shape, which stays.
class QuantizeLayout {
 public:
  static constexpr const char* kName = "QuantizeLayout";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 1;
  static constexpr std::size_t kRequiredOutputs = 1;
  static std::vector<ONNXTensorElementDataType> input_types() { return {ElementType<float>::value}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<std::uint8_t>::value}; }

  QuantizeLayout(const KernelInfo& info, const KernelTable& kernels)
      : settings_(info, "1/scale_d"), kernels_(kernels) {}
  void compute(const KernelContext& context) const;

 private:
  LayoutSettings settings_;
  const KernelTable& kernels_;
};

// x uint8 [N, spatial…, C] → float [N, C, spatial…]; with layout "same" any shape, which stays.
class DequantizeLayout {
 public:
  static constexpr const char* kName = "DequantizeLayout";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 1;
  static constexpr std::size_t kRequiredOutputs = 1;
  static std::vector<ONNXTensorElementDataType> input_types() { return {ElementType<std::uint8_t>::value}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<float>::value}; }

  DequantizeLayout(const KernelInfo& info, const KernelTable& kernels)
      : settings_(info, "scale_d"), kernels_(kernels) {}
  void compute(const KernelContext& context) const;

 private:
  LayoutSettings settings_;
  const KernelTable& kernels_;
};

}  // namespace ort_quant
