#include "quantizers.h"

#include <algorithm>
#include <cmath>

#include "attributes.h"

namespace ort_quant {
namespace {

constexpr std::int64_t kGeInt8 = 2, kGeInt4 = 29, kGeFloat = 0;  // GE's numbers of data types

// AMCT writes a text, GE a number.
int read_bits(const KernelInfo& info) {
  const char* const cure = "Run the fake-quant model, or export int8.";
  const bool text = [&] {
    try {
      return info.optional_exact_string("dst_type").has_value();
    } catch (const OpError&) {
      return false;
    }
  }();
  if (text) {
    const std::string type = info.attribute("dst_type", std::string("INT8"));
    if (type == "INT8") return 8;
    if (type == "INT4") return 4;
    refuse_attribute("dst_type", '"' + type + '"', "INT8 or INT4", cure);
  }
  const std::int64_t type = info.attribute("dst_type", kGeInt8);
  if (type == kGeInt8) return 8;
  if (type == kGeInt4) return 4;
  refuse_attribute("dst_type", std::to_string(type), "2 (int8) or 29 (int4)", cure);
}

}  // namespace

bool read_flag(const KernelInfo& info, const char* name) { return read_int(info, name, 0, 0, 1, kCorrectModel) != 0; }

void require_float_output(const KernelInfo& info) {
  const std::int64_t type = info.attribute("dtype", kGeFloat);
  if (type == kGeFloat) return;
  refuse_attribute("dtype", std::to_string(type), "0 (float32)",
                   "A layer with float16 output cannot run here: run the fake-quant model.");
}

DeployQuantizer read_deploy_quantizer(const KernelInfo& info) {
  const std::string round_mode = info.attribute("round_mode", std::string("Round"));
  if (round_mode != "Round") {
    refuse_attribute("round_mode", '"' + round_mode + '"', "Round", "Export the model again.");
  }
  const bool half_precision = read_half_precision(info);
  const float scale = read_scale(info, "1/scale_d");
  const float half_range = std::ldexp(1.0f, read_bits(info) - 1);
  const float offset = info.attribute("offset", 0.0f);
  if (!(offset >= -half_range && offset < half_range && offset == std::floor(offset))) {
    refuse_attribute("offset", to_text(offset),
                     "an integer in [" + to_text(-half_range) + ", " + to_text(half_range - 1) + "]",
                     "Correct offset_d in the record file and export the model again.");
  }
  return {{half_precision ? half_precision_scale(scale) : scale, offset, -half_range, half_range - 1, half_precision},
          read_flag(info, "sqrt_mode")};
}

DeployAntiQuant::DeployAntiQuant(const KernelInfo& info, const KernelTable&)
    : scale_(read_scale(info, "scale_d")), offset_(activation_offset(info, 0)), twice_(read_flag(info, "sqrt_mode")) {
  require_float_output(info);
  const float stated = info.attribute("offset", 0.0f);
  if (std::abs(stated) != std::abs(static_cast<float>(offset_))) {
    refuse_attribute("offset", to_text(stated),
                     std::to_string(-offset_) + ", the negative offset of the quantizer in front",
                     "Correct the record file and export the model again.");
  }
}

void DeployAntiQuant::compute(const KernelContext& context) const {
  const auto x = context.input<std::int8_t>(0);
  const Span<float> y = context.output<float>(0, x.shape);
  parallel_blocks(context, y.size, [&](std::size_t begin, std::size_t size) {
    for (std::size_t i = begin; i < begin + size; ++i) {
      const float value = static_cast<float>(x.values[i] - offset_) * scale_;
      y[i] = twice_ ? value * scale_ : value;
    }
  });
}

void DeployWeightQuant::compute(const KernelContext& context) const {
  const auto x = context.input<std::int8_t>(0), offset = context.input<std::int8_t>(1);
  if (std::any_of(offset.values.begin(), offset.values.end(), [](std::int8_t value) { return value != 0; })) {
    throw OpError("input 'offset' is not zero, expected symmetric weights. Export the model again.");
  }
  std::copy(x.values.begin(), x.values.end(), context.output<std::int8_t>(0, x.shape).begin());
}

}  // namespace ort_quant
