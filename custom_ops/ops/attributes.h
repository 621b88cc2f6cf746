// Checks that several ops share.
#pragma once

#include <string>

#include "ort.h"

namespace ort_quant {

// "attribute 'name' is <value>, expected <expected>. <cure>"
[[noreturn]] void refuse_attribute(const std::string& name, const std::string& value, const std::string& expected,
                                   const std::string& cure);

inline constexpr const char* kConfigure = "Correct the configuration and run quantize_model again.";

inline constexpr const char* kCorrectModel = "Correct the attribute in the model.";

// An INT of [least, most].
std::int64_t read_int(const KernelInfo& info, const char* name, std::int64_t fallback, std::int64_t least,
                      std::int64_t most, const char* cure = kConfigure);

// A required FLOAT, finite and > 0.
float read_scale(const KernelInfo& info, const char* meaning, const char* name = "scale");

// `fakequant_precision_mode`: DEFAULT (false) or FORCE_FP16_QUANT (true).
bool read_half_precision(const KernelInfo& info);

}  // namespace ort_quant
