#include "quantize_ops.h"

#include <cmath>

#include "attributes.h"
#include "deq_scale.h"

namespace ort_quant {
namespace {

int read_dst_bits(const KernelInfo& info, bool int8_output) {
  const std::string type = info.attribute("dst_type", std::string("INT8"));
  if (type == "INT4") return 4;
  if (type == "INT8") return 8;
  if (type == "INT16" && !int8_output) return 16;
  refuse_attribute("dst_type", '"' + type + '"',
                   int8_output ? "INT4 or INT8 for an int8 output" : "INT4, INT8 or INT16",
                   "Correct the configuration and export the model again.");
}

QuantizeParams checked_params(float scale, float offset, int bits, bool half_precision) {
  const float half_range = std::ldexp(1.0f, bits - 1);
  if (!(offset >= -half_range && offset < half_range && offset == std::floor(offset))) {
    refuse_attribute("offset", to_text(offset),
                     "an integer in [" + to_text(-half_range) + ", " + to_text(half_range - 1) + "]",
                     "Correct offset_d in the record file and export the model again.");
  }
  return {scale, offset, -half_range, half_range - 1, half_precision};
}

}  // namespace

QuantizeParams read_ascend_quant(const KernelInfo& info, bool int8_output) {
  const bool half_precision = read_half_precision(info);
  const float scale = read_scale(info, "1/scale_d");
  return checked_params(half_precision ? half_precision_scale(scale) : scale, info.attribute("offset", 0.0f),
                        read_dst_bits(info, int8_output), half_precision);
}

QuantizeParams read_quant(const KernelInfo& info) {
  const std::int64_t bits = info.attribute("quant_bit", std::int64_t{8});
  if (bits < 2 || bits > 16) {
    refuse_attribute("quant_bit", std::to_string(bits), "an integer in [2, 16]", "Correct the attribute in the model.");
  }
  const auto offset = static_cast<float>(info.attribute("offset", std::int64_t{0}));
  return checked_params(read_scale(info, "1/scale_d"), offset, static_cast<int>(bits), false);
}

}  // namespace ort_quant
