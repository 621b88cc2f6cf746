#include "search_n_ops.h"

#include <algorithm>
#include <cmath>

#include "attributes.h"
#include "dmq.h"

namespace ort_quant {

float read_scale_d(const Tensor<const float>& input) {
  if (input.values.size == 1) return input.values[0];
  throw OpError("input 'scale_d' has shape " + to_string(input.shape) +
                ", expected [1]. Connect the output of the layer's IFMR or HFMG node.");
}

void ShiftAccumulator::add(const Shape& shape, Span<const float> values, float scale_d, Span<const float> scale_w,
                           ShiftDivision division, const ForEach& for_each) {
  if (scale_w.empty()) {
    throw OpError("input 'scale_w' has 0 values, expected 1 or one per channel of the feature map " +
                  to_string(shape) + ". Connect the layer's weight scales.");
  }
  if (values.empty()) return;
  const std::size_t channels = shape.empty() ? 1 : static_cast<std::size_t>(shape[0]);
  if (scale_w.size != 1 && scale_w.size != channels) {
    throw OpError("input 'scale_w' has " + std::to_string(scale_w.size) + " values, expected 1 or " +
                  std::to_string(channels) + ", the first dimension of the feature map " + to_string(shape) +
                  ". Transpose the feature map so that its channels come first.");
  }
  for (std::size_t c = 0; c < scale_w.size; ++c) {
    const float deq_scale = scale_d * scale_w[c];
    if (!std::isfinite(deq_scale) || deq_scale <= 0) {
      throw OpError("the dequantization scale scale_d·scale_w of channel " + std::to_string(c) + " is " +
                    to_text(deq_scale) + ", expected a finite number > 0. Check the weights and the calibration of "
                    "the activation.");
    }
  }
  searches_.resize(scale_w.size);
  const std::size_t per_channel = values.size / scale_w.size;
  for_each(scale_w.size, [&](std::size_t c) {
    searches_[c].add(values.subspan(c * per_channel, per_channel), scale_d * scale_w[c], division);
  });
}

std::vector<std::string> ShiftAccumulator::best() const {
  if (searches_.empty()) {
    throw OpError("no run had values and a known scale_d, expected at least one. Give this node the batch_num of the "
                  "IFMR or HFMG node that it takes scale_d from, and calibrate with inputs that reach this layer.");
  }
  std::vector<std::string> shifts;
  for (const ShiftSearch& search : searches_) shifts.push_back(std::to_string(search.best()));
  return shifts;
}

DmqSettings::DmqSettings(const KernelInfo& info)
    : input_names_{info.input_name(0), info.input_name(1)},
      layer_(info.required_exact_string("object_layer")),
      record_file_path_(info.required_string("record_file_path")),
      migration_strength_(info.attribute("migration_strength", 0.5f)),
      channel_num_(read_int(info, "channel_num", 0, 0, std::int64_t{1} << 31)) {
  if (!(migration_strength_ >= 0.2f && migration_strength_ <= 0.8f)) {
    refuse_attribute("migration_strength", to_text(migration_strength_), "a number in [0.2, 0.8]", kConfigure);
  }
}

std::vector<float> DmqSettings::channel_maxima(std::size_t index, const Shape& shape, Span<const float> values,
                                               const KernelTable& kernels) const {
  const auto channels = static_cast<std::size_t>(shape.empty() ? 1 : shape[0]);
  if (channel_num_ != 0 && channels != static_cast<std::size_t>(channel_num_)) {
    throw OpError("input '" + input_names_[index] + "' has shape " + to_string(shape) + ", expected channel_num = " +
                  std::to_string(channel_num_) + " as first dimension. Transpose it so that its channels come first.");
  }
  check_finite(values, "DMQBalancer", "layer '" + layer_ + "' (tensor '" + input_names_[index] + "')", kernels);
  std::vector<float> maxima(channels, 0.0f);
  const std::size_t per_channel = channels == 0 ? 0 : values.size / channels;
  for (std::size_t c = 0; c < channels && per_channel > 0; ++c) {
    const ScanResult scan = kernels.scan(values.data + c * per_channel, per_channel);
    maxima[c] = std::max(std::fabs(scan.min), std::fabs(scan.max));
  }
  return maxima;
}

void DmqSettings::write(const std::vector<float>& activation_max, const std::vector<float>& weight_max) const {
  if (activation_max.size() != weight_max.size()) {
    throw OpError("activation '" + input_names_[0] + "' has " + std::to_string(activation_max.size()) +
                  " channels and weight '" + input_names_[1] + "' " + std::to_string(weight_max.size()) +
                  ", expected the same number. Transpose both so that the input channels come first.");
  }
  std::vector<std::string> factors;
  try {
    for (float factor : dmq_factors(activation_max, weight_max, migration_strength_)) {
      factors.push_back(to_text(factor, 10));
    }
  } catch (const CalibrationFailure& failure) {
    throw OpError("layer '" + layer_ + "' cannot be balanced: " + failure.what() +
                  ". Leave dmq_balancer out for this layer.");
  }
  write_record_fields(record_file_path_, {layer_}, repeated_field("tensor_balance_factor", factors));
}

}  // namespace ort_quant
