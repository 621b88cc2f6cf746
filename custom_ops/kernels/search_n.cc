#include "search_n.h"

#include <algorithm>
#include <cmath>

namespace ort_quant {

void ShiftSearch::add(Span<const float> values, float deq_scale, ShiftDivision division) {
  for (const float value : values) {
    const double code = std::round(value / deq_scale);
    double step = 1;
    for (double& error : errors_) {
      step *= 2;
      const double quotient = code / step;
      const double shifted = division == ShiftDivision::kTruncate ? std::trunc(quotient) : std::floor(quotient);
      const double difference = std::clamp(shifted, -32768.0, 32767.0) * step - code;
      error += difference * difference;
    }
  }
}

int ShiftSearch::best() const {
  return static_cast<int>(std::min_element(errors_.begin(), errors_.end()) - errors_.begin()) + 1;
}

}  // namespace ort_quant
