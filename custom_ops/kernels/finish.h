// The end of the layers that deliver float32 results in pieces (depthwise, pooling, addition): the epilogue and the
// outputs of epilogue.h behind layer_output.h.
#pragma once

#include "epilogue.h"
#include "kernel_table.h"
#include "layer_output.h"

namespace ort_quant {

// The frequent ends: nothing or one clip or relu, then one quantized output. None for any other.
// `finite_results`: no result that the steps see is NaN.
std::optional<ByteOutput> byte_output(const Epilogue& epilogue, const OutputSpec& outputs, bool finite_results);

// Lives as long as the run; `epilogue` must outlive it.
class LayerFinish {
 public:
  LayerFinish(const Epilogue& epilogue, const OutputSpec& outputs, const OutputTensors& tensors,
              const KernelTable& kernels);

  // Refers to this object.
  LayerOutput output();

 private:
  static void take(void* context, float* values, std::size_t position, std::size_t channel, std::size_t count);

  FinishProgram program_;
  std::optional<ByteOutput> bytes_;
  OutputTensors tensors_;
  const QuantizedKernels& kernels_;
};

}  // namespace ort_quant
