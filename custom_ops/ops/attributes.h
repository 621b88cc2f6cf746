// Checks that several ops share.
#pragma once

#include <string>

#include "ort.h"

namespace ort_quant {

// "attribute 'name' is <value>, expected <expected>. <cure>"
[[noreturn]] void refuse_attribute(const std::string& name, const std::string& value, const std::string& expected,
                                   const std::string& cure);

// `scale`: finite and > 0.
float read_scale(const KernelInfo& info, const char* meaning);

// `fakequant_precision_mode`: DEFAULT (false) or FORCE_FP16_QUANT (true).
bool read_half_precision(const KernelInfo& info);

}  // namespace ort_quant
