#include "deq_scale.h"

#include <cmath>

namespace ort_quant {

float half_precision_scale(float scale) {
  constexpr float kSmallestNormal = 0x1p-14f;
  constexpr float kLargest = 65504.0f;
  if (scale >= kSmallestNormal && scale <= kLargest) return round_to_half(scale);
  const float root = round_to_half(std::sqrt(scale));
  return root * root;
}

}  // namespace ort_quant
