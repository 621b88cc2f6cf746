// What a calibration finds, and the arithmetic of scales (AMCT's base formulas).
#pragma once

#include <cfloat>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace ort_quant {

// x ≈ (q − offset)·scale, q in [−2^(bits−1), 2^(bits−1) − 1].
struct Range {
  float scale;
  std::int32_t offset;
};

// Data that has no valid scale. The message says what is wrong with the data; the caller adds where.
class CalibrationFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Calls body(0) … body(count − 1) in any order, possibly on several threads. `body` must not throw.
using ForEach = std::function<void(std::size_t count, const std::function<void(std::size_t)>& body)>;

inline void for_each_serial(std::size_t count, const std::function<void(std::size_t)>& body) {
  for (std::size_t i = 0; i < count; ++i) body(i);
}

// The scale below which AMCT takes 1 instead: float32's epsilon in general, float64's in HFMG.
inline constexpr float kSmallestScale = FLT_EPSILON;
inline constexpr float kSmallestHfmgScale = DBL_EPSILON;

// A scale below `smallest` becomes 1; one above 1/FLT_EPSILON (or not finite) is a CalibrationFailure.
float sanitise_scale(float scale, float smallest);

// [min, max] is widened to hold zero. Symmetric: the bound of larger magnitude decides (a tie goes to min); the negative
// side owns one code more. C rounding (half away from zero).
Range range_from_bounds(float min, float max, int bits, bool asymmetric, float smallest_scale);

}  // namespace ort_quant
