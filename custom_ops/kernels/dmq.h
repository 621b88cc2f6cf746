// AMCT's DMQ balancer: factors that move range from activations to weights.
//
//   f_c = A_c^m / W_c^(1−m),  A_c, W_c the largest magnitudes of input channel c
//
// All ones if either tensor is (nearly) zero. A channel with A_c = 0 gets max(W·f)/W_c, one with W_c = 0 gets
// A_c/max(A/f) (maxima over the other channels), one with both gets 1.
#pragma once

#include <vector>

namespace ort_quant {

// Throws CalibrationFailure for a factor outside [FLT_EPSILON, 1/FLT_EPSILON].
std::vector<float> dmq_factors(const std::vector<float>& activation_max, const std::vector<float>& weight_max,
                               float migration_strength);

}  // namespace ort_quant
