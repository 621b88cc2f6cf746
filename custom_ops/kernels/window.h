// A window that slides over a channels-last tensor: what pooling and the depthwise convolution have in common.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort_quant {

// Tensors are [batch, in[0] … in[rank−1], channels] and [batch, out[0] … out[rank−1], channels], contiguous.
// Output position o of dimension d reads the input positions o·strides[d] − pads_begin[d] + k·dilations[d] for
// k < kernel[d]; those outside [0, in[d]) are padding. Entries from `rank` on mean nothing.
struct WindowGeometry {
  std::size_t rank;  // 1 … 3
  std::size_t batch;
  std::size_t channels;
  std::int64_t in[3];
  std::int64_t out[3];
  std::int64_t kernel[3];
  std::int64_t strides[3];
  std::int64_t dilations[3];
  std::int64_t pads_begin[3];
};

// The same window with three dimensions; the missing ones, in front, have size 1.
WindowGeometry with_three_dimensions(const WindowGeometry& window);

}  // namespace ort_quant
