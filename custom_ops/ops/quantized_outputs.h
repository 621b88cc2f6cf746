// What the ops on quantized activations have in common at their end: the epilogue and the outputs y, y_float and y2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "epilogue.h"
#include "ort.h"

namespace ort_quant {

// An INT in [−128, 127].
std::int32_t read_code_offset(const KernelInfo& info, const char* name);

// Reads and checks the attributes epilogue, y_scale, y_offset, float_layout, y2_scale and y2_offset, and the inputs
// channel_constants [rows, channels], r0 and r1, which follow each other from `first_input` on.
class QuantizedOutputs {
 public:
  // `channels` is 0 where only a run tells it. A matrix product has no planes: `float_layout` means nothing there.
  QuantizedOutputs(const KernelInfo& info, std::size_t first_input, std::size_t channels, bool has_planes = true);

  static std::vector<ONNXTensorElementDataType> output_types();

  const Epilogue& epilogue() const { return epilogue_; }
  const OutputSpec& spec() const { return spec_; }

  // The shape of y_float, given that of y and y2 ([N, spatial…, C]).
  Shape float_shape(const Shape& shape) const;

  // The outputs of one run, made by the runtime, and the residual inputs. `shape` is that of y; OpError for a residual
  // input of another shape, or another channel count than that of channel_constants.
  OutputTensors make(const KernelContext& context, const Shape& shape) const;

 private:
  void read_outputs(const KernelInfo& info, bool has_planes);
  void read_epilogue(const KernelInfo& info, std::size_t channels);

  std::size_t first_input_;      // as the op counts them
  std::size_t first_residual_;   // as the node does
  std::size_t constant_channels_ = 0;  // of channel_constants; 0: there are none
  OutputSpec spec_;
  Epilogue epilogue_;
};

}  // namespace ort_quant
