// The shift N of AMCT's int16 path: per channel the N in 1 … 16 for which keeping the accumulator in 16 bits after a shift
// loses least.
//
//   s = round(y/deq_scale),  t = clip16(s/2^N),  error_N = Σ (t·2^N − s)²
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "span.h"

namespace ort_quant {

enum class ShiftDivision { kTruncate /* SearchN */, kFloor /* SearchNv2 */ };

// Errors of one channel (or of the whole tensor), summed in double.
class ShiftSearch {
 public:
  void add(Span<const float> values, float deq_scale, ShiftDivision division);
  // The smallest N of least error.
  int best() const;

 private:
  static constexpr int kMaxShift = 16;
  std::array<double, kMaxShift> errors_{};
};

}  // namespace ort_quant
