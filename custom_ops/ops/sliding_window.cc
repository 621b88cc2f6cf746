#include "sliding_window.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "attributes.h"

namespace ort_quant {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 24;

// The place of spatial axis `i` of `rank` in an Axes.
std::size_t slot(std::size_t rank, std::size_t i) { return kMaxSpatialRank - rank + i; }

std::vector<std::int64_t> read_ints(const KernelInfo& info, const char* name, std::size_t count, std::int64_t fallback,
                                    std::int64_t least) {
  const auto found = info.optional_ints(name);
  if (!found) return std::vector<std::int64_t>(count, fallback);
  if (found->size() != count) {
    refuse_attribute(name, to_string(*found), std::to_string(count) + " values for this rank", kCorrectModel);
  }
  for (std::int64_t value : *found) {
    if (value >= least && value <= kMost) continue;
    refuse_attribute(name, to_string(*found),
                     "integers in [" + std::to_string(least) + ", " + std::to_string(kMost) + "]", kCorrectModel);
  }
  return *found;
}

Axes right_aligned(const std::vector<std::int64_t>& values, std::size_t begin, std::size_t rank, std::int64_t unused) {
  Axes axes;
  axes.fill(unused);
  for (std::size_t i = 0; i < rank; ++i) axes[slot(rank, i)] = values[begin + i];
  return axes;
}

AutoPad read_auto_pad(const KernelInfo& info) {
  const std::string text = info.attribute("auto_pad", std::string("NOTSET"));
  if (text == "NOTSET" || text.empty()) return AutoPad::kNotSet;
  if (text == "VALID") return AutoPad::kValid;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  refuse_attribute("auto_pad", '"' + text + '"', "NOTSET, VALID, SAME_UPPER or SAME_LOWER", kCorrectModel);
}

void read_kernel(const KernelInfo& info, const Shape* weights_kernel, Window& window) {
  if (weights_kernel == nullptr) {
    const auto kernel = info.optional_ints("kernel_shape");
    if (!kernel || kernel->size() > kMaxSpatialRank) {
      refuse_attribute("kernel_shape", kernel ? to_string(*kernel) : "missing", "one to three sizes", kCorrectModel);
    }
    window.rank = kernel->size();
    window.kernel = read_axes(info, "kernel_shape", window.rank, 1, 1);
    return;
  }
  window.rank = weights_kernel->size();
  window.kernel = right_aligned(*weights_kernel, 0, window.rank, 1);
  for (std::int64_t size : *weights_kernel) {
    if (size <= kMost) continue;
    throw OpError("input 'w' has the kernel size " + to_string(*weights_kernel) + ", expected at most " +
                  std::to_string(kMost) + " on each axis. Leave this layer unquantized.");
  }
  const auto stated = info.optional_ints("kernel_shape");
  if (stated && *stated != *weights_kernel) {
    refuse_attribute("kernel_shape", to_string(*stated), to_string(*weights_kernel) + ", the kernel size of input 'w'",
                     kCorrectModel);
  }
}

}  // namespace

std::size_t checked_count(const Shape& shape, const char* what) {
  std::int64_t count = 1;
  for (std::int64_t size : shape) {
    if (size == 0) return 0;
    if (size < 0 || count > (kMaxElements - 1) / size) {
      throw OpError(std::string(what) + " has the shape " + to_string(shape) + ", expected fewer than 2^31 elements. "
                    "Lower the batch size, or correct the attributes of the node.");
    }
    count *= size;
  }
  return static_cast<std::size_t>(count);
}

Axes read_axes(const KernelInfo& info, const char* name, std::size_t rank, std::int64_t fallback, std::int64_t least) {
  return right_aligned(read_ints(info, name, rank, fallback, least), 0, rank, fallback);
}

Window read_window(const KernelInfo& info, const Shape* weights_kernel) {
  Window window;
  read_kernel(info, weights_kernel, window);
  const std::size_t rank = window.rank;
  window.strides = read_axes(info, "strides", rank, 1, 1);
  window.dilations = read_axes(info, "dilations", rank, 1, 1);
  const std::vector<std::int64_t> pads = read_ints(info, "pads", 2 * rank, 0, 0);
  window.pads_begin = right_aligned(pads, 0, rank, 0);
  window.pads_end = right_aligned(pads, rank, rank, 0);
  window.auto_pad = read_auto_pad(info);
  if (window.auto_pad != AutoPad::kNotSet && std::any_of(pads.begin(), pads.end(), [](auto pad) { return pad != 0; })) {
    refuse_attribute("pads", to_string(pads), "zeros, because auto_pad is set", "Remove one of the two attributes.");
  }
  return window;
}

Axes spatial_sizes(const Shape& x, std::size_t rank) {
  if (x.size() != rank + 2) {
    throw OpError("input 'x' has shape " + to_string(x) + ", expected " + std::to_string(rank + 2) +
                  " dimensions [N, spatial sizes, C]. Check the layout: activations are channels last here.");
  }
  checked_count(x, "input 'x'");
  for (std::size_t i = 1; i <= rank; ++i) {
    if (x[i] > 0) continue;
    throw OpError("input 'x' has shape " + to_string(x) +
                  ", expected spatial sizes of at least 1. Feed larger inputs.");
  }
  return right_aligned(x, 1, rank, 1);
}

namespace {

// ceil(in / stride) windows, the padding shared out between both ends.
void pad_same(const Window& window, std::size_t axis, Placement& placement) {
  if (window.dilations[axis] != 1) {
    refuse_attribute("auto_pad", "SAME_UPPER or SAME_LOWER", "explicit pads, because dilations is not 1",
                     "Write the pads into the model.");
  }
  const std::int64_t in = placement.in[axis];
  const std::int64_t out = (in + window.strides[axis] - 1) / window.strides[axis];
  const std::int64_t total = std::max<std::int64_t>(0, (out - 1) * window.strides[axis] + window.kernel[axis] - in);
  placement.pads_begin[axis] = window.auto_pad == AutoPad::kSameLower ? total - total / 2 : total / 2;
  placement.pads_end[axis] = total - placement.pads_begin[axis];
}

}  // namespace

Placement place(const Window& window, const Axes& in, bool ceil_mode) {
  Placement placement{in, {1, 1, 1}, window.pads_begin, window.pads_end};
  for (std::size_t axis = kMaxSpatialRank - window.rank; axis < kMaxSpatialRank; ++axis) {
    if (window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower) {
      pad_same(window, axis, placement);
    }
    const std::int64_t stride = window.strides[axis];
    const std::int64_t padded = in[axis] + placement.pads_begin[axis] + placement.pads_end[axis];
    const std::int64_t room = padded - window.extent(axis);
    if (room < 0) {
      throw OpError("the kernel covers " + std::to_string(window.extent(axis)) + " positions of spatial axis " +
                    std::to_string(axis - (kMaxSpatialRank - window.rank)) + ", but input 'x' with its padding has " +
                    std::to_string(padded) + ". Feed larger inputs, or correct kernel_shape, dilations or pads.");
    }
    std::int64_t out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
    if (ceil_mode && (out - 1) * stride >= in[axis] + placement.pads_begin[axis]) --out;
    placement.out[axis] = out;
  }
  return placement;
}

Placement place_transposed(const Window& window, const Axes& in, const Axes& output_padding,
                           const Axes* output_shape) {
  Placement placement{in, {1, 1, 1}, window.pads_begin, window.pads_end};
  for (std::size_t axis = kMaxSpatialRank - window.rank; axis < kMaxSpatialRank; ++axis) {
    const std::int64_t natural = (in[axis] - 1) * window.strides[axis] + output_padding[axis] + window.extent(axis);
    const bool same = window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower;
    std::int64_t& begin = placement.pads_begin[axis];
    std::int64_t& end = placement.pads_end[axis];
    if (output_shape != nullptr && (*output_shape)[axis] > natural) {
      refuse_attribute("output_shape", std::to_string((*output_shape)[axis]) + " on one axis",
                       "at most " + std::to_string(natural) + ", the size without padding", kCorrectModel);
    }
    if (output_shape != nullptr || same) {
      const std::int64_t wanted = output_shape != nullptr ? (*output_shape)[axis] : in[axis] * window.strides[axis];
      const std::int64_t total = std::max<std::int64_t>(0, natural - wanted);
      begin = window.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
      end = total - begin;
    }
    placement.out[axis] = natural - begin - end;
    if (placement.out[axis] < 1) {
      refuse_attribute("pads", std::to_string(begin) + " and " + std::to_string(end) + " on one axis",
                       "less than " + std::to_string(natural) + " in sum, the output's size without padding",
                       kCorrectModel);
    }
  }
  return placement;
}

Shape output_shape(std::int64_t batch, const Placement& placement, std::size_t rank, std::int64_t channels) {
  Shape shape{batch};
  shape.insert(shape.end(), placement.out.end() - static_cast<std::ptrdiff_t>(rank), placement.out.end());
  shape.push_back(channels);
  return shape;
}

Dims to_dims(const Axes& axes) {
  Dims dims;
  std::transform(axes.begin(), axes.end(), dims.begin(), [](std::int64_t v) { return static_cast<std::size_t>(v); });
  return dims;
}

ConvGeometry to_geometry(std::int64_t batch, const Placement& placement) {
  ConvGeometry geometry;
  geometry.batch = static_cast<std::size_t>(batch);
  geometry.in = to_dims(placement.in);
  geometry.out = to_dims(placement.out);
  std::copy(placement.pads_begin.begin(), placement.pads_begin.end(), geometry.pads_begin.begin());
  return geometry;
}

}  // namespace ort_quant
