#include "range.h"

#include <algorithm>
#include <cmath>

namespace ort_quant {

float sanitise_scale(float scale, float smallest) {
  if (scale >= 0 && scale < smallest) return 1.0f;
  if (!std::isfinite(scale) || 1.0f / scale < FLT_EPSILON) {
    throw CalibrationFailure("its values give the scale " + std::to_string(scale) +
                             ", expected at most 1/FLT_EPSILON (8388608)");
  }
  return scale;
}

Range range_from_bounds(float min, float max, int bits, bool asymmetric, float smallest_scale) {
  const float half_range = std::ldexp(1.0f, bits - 1);
  const float low = std::min(min, 0.0f);
  const float high = std::max(max, 0.0f);
  if (asymmetric) {
    const float scale = sanitise_scale((high - low) / (2.0f * half_range - 1.0f), smallest_scale);
    const auto offset = static_cast<std::int32_t>(-half_range - std::round(low / scale));
    return {scale, offset};
  }
  const bool positive = high > -low;
  const float magnitude = positive ? high : -low;
  return {sanitise_scale(magnitude / (positive ? half_range - 1.0f : half_range), smallest_scale), 0};
}

}  // namespace ort_quant
