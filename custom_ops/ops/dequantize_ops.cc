#include "dequantize_ops.h"

#include <algorithm>
#include <cmath>

namespace ort_quant {
namespace {

constexpr int kMaxShift = 16;

const char* const kExportAgain = "Correct the record file and export the model again.";

}  // namespace

ChannelView channel_view(const Shape& shape, std::int64_t axis, std::size_t scales, const char* input_name) {
  if (scales == 1) return {1, 1, element_count(shape)};
  if (scales == 0) {
    throw OpError("input '" + std::string(input_name) + "' has 0 values, expected 1 or one per channel of x " +
                  to_string(shape) + ". " + kExportAgain);
  }
  const auto rank = static_cast<std::int64_t>(shape.size());
  if (rank == 1) axis = 0;
  if (axis < -rank || axis >= rank) {
    throw OpError("attribute 'axis' is " + std::to_string(axis) + " but input 'x' has shape " + to_string(shape) +
                  ", expected an axis of it. Give one scale for the whole tensor or correct the axis.");
  }
  const auto channel_axis = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
  const auto channels = static_cast<std::size_t>(shape[channel_axis]);
  if (scales != channels) {
    throw OpError("input '" + std::string(input_name) + "' has " + std::to_string(scales) + " values, expected 1 or " +
                  std::to_string(channels) + ", the size of axis " + std::to_string(channel_axis) + " of x " +
                  to_string(shape) + ". Set the attribute 'axis' if the channels are on another axis (-1 for MatMul).");
  }
  ChannelView view{1, channels, 1};
  for (std::size_t i = 0; i < channel_axis; ++i) view.outer *= static_cast<std::size_t>(shape[i]);
  for (std::size_t i = channel_axis + 1; i < shape.size(); ++i) view.inner *= static_cast<std::size_t>(shape[i]);
  return view;
}

DeqScale checked_deq_scale(DeqScale value, std::size_t channel) {
  if (!std::isfinite(value.scale)) {
    throw OpError("input 'deq_scale' holds the scale " + to_text(value.scale) + " in channel " +
                  std::to_string(channel) + ", expected a finite number. " + kExportAgain);
  }
  if (value.shift < 0 || value.shift > kMaxShift) {
    throw OpError("input 'deq_scale' holds the shift " + std::to_string(value.shift) + " in channel " +
                  std::to_string(channel) + ", expected an integer in [0, 16]. " + kExportAgain);
  }
  return value;
}

std::vector<DeqScale> unpack_deq_scales(Span<const std::uint64_t> packed, bool half_precision) {
  std::vector<DeqScale> scales;
  for (std::uint64_t value : packed) {
    scales.push_back(checked_deq_scale(unpack_deq_scale(value), scales.size()));
    if (half_precision) scales.back().scale = truncate_deq_scale(scales.back().scale);
  }
  return scales;
}

bool has_shift(const std::vector<DeqScale>& scales) {
  return std::any_of(scales.begin(), scales.end(), [](const DeqScale& s) { return s.shift != 0; });
}

std::vector<DeqScale> join_deq_scale(Span<const float> shift, Span<const float> scale, std::size_t channels) {
  for (const Span<const float>* values : {&shift, &scale}) {
    if (values->size == 1 || values->size == channels) continue;
    throw OpError("input '" + std::string(values == &shift ? "shift" : "deq_scale") + "' has " +
                  std::to_string(values->size) + " values, expected 1 or " + std::to_string(channels) +
                  ", the channel count. " + kExportAgain);
  }
  std::vector<DeqScale> joined;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const float bits = shift[shift.size == 1 ? 0 : channel];
    if (!(bits >= 0 && bits <= kMaxShift && bits == std::floor(bits))) {
      throw OpError("input 'shift' holds " + to_text(bits) + " in channel " + std::to_string(channel) +
                    ", expected an integer in [0, 16]. " + kExportAgain);
    }
    joined.push_back(checked_deq_scale({scale[scale.size == 1 ? 0 : channel], static_cast<int>(bits)}, channel));
  }
  return joined;
}

bool read_clip16(const KernelInfo& info) {
  const std::int64_t mode = info.attribute("clip_mode", std::int64_t{32});
  if (mode != 16 && mode != 32) {
    refuse_attribute("clip_mode", std::to_string(mode), "16 or 32", "Correct the attribute in the model.");
  }
  return mode == 16;
}

}  // namespace ort_quant
