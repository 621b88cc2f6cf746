#include "observe_op.h"

#include "attributes.h"

namespace ort_quant {

ObserveSettings::ObserveSettings(const KernelInfo& info)
    : key_(info.optional_exact_string("key").value_or(info.input_name(0))) {
  if (key_.size() > kLongestKey) {
    throw OpError("attribute 'key' has " + std::to_string(key_.size()) + " bytes, expected at most " +
                  std::to_string(kLongestKey) + ". Give the node a shorter key.");
  }
  if (const auto axis = info.optional_int("axis")) {
    axis_ = static_cast<std::int32_t>(read_int(info, "axis", *axis, INT32_MIN, INT32_MAX));
  }
}

ChannelLayout ObserveSettings::layout_of(const Shape& shape) {
  if (!axis_) return {};
  const auto rank = static_cast<std::int64_t>(shape.size());
  if (*axis_ < -rank || *axis_ >= rank) {
    throw OpError("tensor '" + key_ + "' has shape " + to_string(shape) + ", which has no axis " +
                  std::to_string(*axis_) + ". Correct or remove the attribute 'axis'.");
  }
  const auto axis = static_cast<std::ptrdiff_t>(*axis_ < 0 ? *axis_ + rank : *axis_);
  const auto channels = static_cast<std::size_t>(shape[static_cast<std::size_t>(axis)]);
  if (channels_.value_or(channels) != channels) {
    throw OpError("tensor '" + key_ + "' has shape " + to_string(shape) + ", expected " + std::to_string(*channels_) +
                  " channels along axis " + std::to_string(*axis_) +
                  " as in the runs before. Choose the channel axis, whose size is constant, or remove the attribute "
                  "'axis'.");
  }
  channels_ = channels;
  return {channels, element_count({shape.begin() + axis + 1, shape.end()})};
}

bool read_flush(const Tensor<const bool>& input) {
  if (input.values.size == 1) return input.values[0];
  throw OpError("input 'flush' has shape " + to_string(input.shape) + ", expected [1]. Give one boolean.");
}

}  // namespace ort_quant
