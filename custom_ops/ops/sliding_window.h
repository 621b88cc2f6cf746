// The sliding window of Conv, ConvTranspose and the pools: ONNX's attributes, and the sizes that follow from them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ort.h"
#include "qconv.h"

namespace ort_quant {

inline constexpr std::size_t kMaxSpatialRank = 3;

// A tensor of these ops has fewer elements: sizes and products of sizes stay far from any overflow.
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 31;

// The element count; OpError unless it is less than kMaxElements. `what` says which tensor this is.
std::size_t checked_count(const Shape& shape, const char* what);

// Values per spatial axis; the last `rank` of them count, the others are those of an axis of size 1.
using Axes = std::array<std::int64_t, kMaxSpatialRank>;

enum class AutoPad { kNotSet, kValid, kSameUpper, kSameLower };

// A window over `rank` axes. Every value is in [0 or 1, 2^24].
struct Window {
  std::size_t rank = 0;
  Axes kernel{1, 1, 1};
  Axes strides{1, 1, 1};
  Axes dilations{1, 1, 1};
  Axes pads_begin{0, 0, 0};
  Axes pads_end{0, 0, 0};
  AutoPad auto_pad = AutoPad::kNotSet;

  // Of the kernel with its gaps.
  std::int64_t extent(std::size_t axis) const { return (kernel[axis] - 1) * dilations[axis] + 1; }
};

// Where the window stands on an input of one size.
struct Placement {
  Axes in{1, 1, 1};
  Axes out{1, 1, 1};
  Axes pads_begin{0, 0, 0};
  Axes pads_end{0, 0, 0};
};

// kernel_shape, strides, dilations, pads, auto_pad. `weights_kernel` (spatial sizes of the weights) gives rank and kernel
// of a convolution; where it is null, `kernel_shape` does.
Window read_window(const KernelInfo& info, const Shape* weights_kernel);

// An attribute of one value per spatial axis, each in [least, 2^24].
Axes read_axes(const KernelInfo& info, const char* name, std::size_t rank, std::int64_t fallback, std::int64_t least);

// The spatial sizes of x [N, spatial…, C]; OpError for another rank or a size of 0.
Axes spatial_sizes(const Shape& x, std::size_t rank);

// Of a convolution or pool. With `ceil_mode` the last window may reach beyond the end, but none starts there.
Placement place(const Window& window, const Axes& in, bool ceil_mode);

// Of a transposed convolution. `output_shape` is null where the attribute is missing.
Placement place_transposed(const Window& window, const Axes& in, const Axes& output_padding, const Axes* output_shape);

// [batch, out…, channels]
Shape output_shape(std::int64_t batch, const Placement& placement, std::size_t rank, std::int64_t channels);

ConvGeometry to_geometry(std::int64_t batch, const Placement& placement);
Dims to_dims(const Axes& axes);

}  // namespace ort_quant
