#include "attributes.h"

#include <cmath>

namespace ort_quant {

void refuse_attribute(const std::string& name, const std::string& value, const std::string& expected,
                      const std::string& cure) {
  throw OpError("attribute '" + name + "' is " + value + ", expected " + expected + ". " + cure);
}

std::int64_t read_int(const KernelInfo& info, const char* name, std::int64_t fallback, std::int64_t least,
                      std::int64_t most, const char* cure) {
  const std::int64_t value = info.attribute(name, fallback);
  if (value < least || value > most) {
    refuse_attribute(name, std::to_string(value),
                     "an integer in [" + std::to_string(least) + ", " + std::to_string(most) + "]", cure);
  }
  return value;
}

float read_scale(const KernelInfo& info, const char* meaning, const char* name) {
  const float scale = info.required_float(name);
  if (!std::isfinite(scale) || scale <= 0) {
    refuse_attribute(name, to_text(scale), std::string("a finite number > 0 (") + meaning + ")",
                     "Correct the record file and export the model again.");
  }
  return scale;
}

bool read_half_precision(const KernelInfo& info) {
  const std::string mode = info.attribute("fakequant_precision_mode", std::string("DEFAULT"));
  if (mode == "DEFAULT" || mode.empty()) return false;
  if (mode == "FORCE_FP16_QUANT") return true;
  refuse_attribute("fakequant_precision_mode", '"' + mode + '"', "DEFAULT or FORCE_FP16_QUANT",
                   "Correct the configuration and export the model again.");
}

}  // namespace ort_quant
