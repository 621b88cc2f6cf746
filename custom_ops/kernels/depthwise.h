// Depthwise convolution of uint8 activations, channels last, with int8 weights: one filter per channel.
//
//   acc[c] = bias[c] + Σ_k (x[…, c] − z)·w[c, k]   in int32 (wraps), z = x_offset + 128, padding counts as x = z
//   y[c]   = float(acc[c])·deq[c]                   rounded to nearest even twice
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernel_table.h"
#include "layer_output.h"
#include "range.h"
#include "span.h"
#include "window.h"

namespace ort_quant {

// What is known when the kernel is created. Nothing is referred to afterwards.
struct DepthwiseParams {
  std::size_t rank;  // 1 … 3
  std::size_t channels;
  std::int64_t kernel[3];
  std::int64_t strides[3];
  std::int64_t dilations[3];
  Span<const std::int8_t> weights;  // [channels, kernel[0], …]
  Span<const float> deq;            // [channels] or [1]; finite
  Span<const std::int32_t> bias;    // [channels], or empty: no bias
  std::int32_t x_offset;            // −128 … 127
};

class PackedDepthwise {
 public:
  PackedDepthwise(const DepthwiseParams& params, const KernelTable& kernels);
  PackedDepthwise(PackedDepthwise&&) noexcept;
  PackedDepthwise& operator=(PackedDepthwise&&) noexcept;
  ~PackedDepthwise();

  // `window` agrees with the constructor's params in rank, channels, kernel, strides and dilations.
  // Takes up to 80 KiB of stack in each thread and allocates nothing. May run on several threads at once.
  void run(const WindowGeometry& window, const std::uint8_t* x, const LayerOutput& output,
           const ForEach& for_each) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace ort_quant
