#include "dmq.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>

#include "range.h"

namespace ort_quant {

std::vector<float> dmq_factors(const std::vector<float>& activation_max, const std::vector<float>& weight_max,
                               float migration_strength) {
  const std::size_t channels = activation_max.size();
  std::vector<float> factors(channels, 1.0f);
  if (channels == 0 || *std::max_element(activation_max.begin(), activation_max.end()) < FLT_EPSILON ||
      *std::max_element(weight_max.begin(), weight_max.end()) < FLT_EPSILON) {
    return factors;
  }
  float balanced_weight = 0;
  float balanced_activation = 0;
  for (std::size_t c = 0; c < channels; ++c) {
    if (activation_max[c] == 0 || weight_max[c] == 0) continue;
    factors[c] = std::pow(activation_max[c], migration_strength) / std::pow(weight_max[c], 1 - migration_strength);
    balanced_weight = std::max(balanced_weight, weight_max[c] * factors[c]);
    balanced_activation = std::max(balanced_activation, activation_max[c] / factors[c]);
  }
  for (std::size_t c = 0; c < channels; ++c) {
    const bool no_activation = activation_max[c] == 0;
    const bool no_weight = weight_max[c] == 0;
    if (balanced_weight > 0 && no_activation && !no_weight) factors[c] = balanced_weight / weight_max[c];
    if (balanced_weight > 0 && no_weight && !no_activation) factors[c] = activation_max[c] / balanced_activation;
    if (!(factors[c] >= FLT_EPSILON && factors[c] <= 1 / FLT_EPSILON)) {
      throw CalibrationFailure("channel " + std::to_string(c) + " gets the balance factor " +
                               std::to_string(factors[c]) + ", expected one in [FLT_EPSILON, 1/FLT_EPSILON]");
    }
  }
  return factors;
}

}  // namespace ort_quant
