// Pooling of uint8 activations, channels last.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "layer_output.h"
#include "range.h"
#include "window.h"

namespace ort_quant {

// The largest value of each window; padding is left out. A window that lies in the padding altogether gives 0.
void max_pool(const WindowGeometry& window, const std::uint8_t* x, std::uint8_t* y, const KernelTable& kernels,
              const ForEach& for_each);

struct AverageParams {
  std::int32_t x_offset;  // −128 … 127
  float deq;
  bool count_include_pad;
  std::int64_t pads_end[3];  // with count_include_pad: padding counts up to in + pads_end, not beyond (ceil_mode)
};

// y = a·deq, where a is what ONNX Runtime's float32 AveragePool gives for the integers u − z, z = x_offset + 128:
// float(Σ (u − z)) / float(number), one division. Exact as long as |Σ (u − z)| of a window stays within 2^24.
void average_pool(const WindowGeometry& window, const AverageParams& params, const std::uint8_t* x,
                  const LayerOutput& output, const KernelTable& kernels, const ForEach& for_each);

// The same for ONNX Runtime's GlobalAveragePool: x is [batch, positions, channels], the result [batch, channels].
struct GlobalPoolShape {
  std::size_t batch;
  std::size_t positions;
  std::size_t channels;
};
void global_average_pool(const GlobalPoolShape& shape, std::int32_t x_offset, float deq, const std::uint8_t* x,
                         const LayerOutput& output, const KernelTable& kernels, const ForEach& for_each);

}  // namespace ort_quant
