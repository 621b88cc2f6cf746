#include "reference.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "float_order.h"

namespace ort_quant::reference {
namespace {

float clip(float value, float lowest, float highest) {
  if (std::isnan(value)) return value;
  return std::min(std::max(value, lowest), highest);
}

float code(float x, const QuantizeParams& params) {
  if (params.half_precision) {
    const float product = round_to_half(round_to_half(x) * params.scale);
    return clip(std::nearbyint(round_to_half(product + params.offset)), params.lowest, params.highest);
  }
  const float product = x * params.scale;
  const float rounded = std::nearbyint(product);
  const float shifted = rounded + params.offset;
  return clip(shifted, params.lowest, params.highest);
}

}  // namespace

float quantize(float x, const QuantizeParams& params) { return code(x, params) - params.offset; }

std::int8_t quantize_int8(float x, const QuantizeParams& params) {
  const float value = code(x, params);
  return std::isnan(value) ? std::int8_t{0} : static_cast<std::int8_t>(value);
}

float dequantize(float x, const DequantizeParams& params) {
  const float t = clip(params.shifted ? std::floor(x / params.step) : x, params.lowest, params.highest);
  const float scaled = t * params.scale;
  const float result = scaled * params.step;
  return params.half_precision ? round_to_half(result) : result;
}

ScanResult scan(const float* x, std::size_t count) {
  const float inf = std::numeric_limits<float>::infinity();
  ScanResult result{inf, -inf, 0, 0};
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(x[i])) {
      ++result.nan_count;
    } else if (std::isinf(x[i])) {
      ++result.inf_count;
    } else {
      result.min = std::min(result.min, x[i]);
      result.max = std::max(result.max, x[i]);
    }
  }
  return result;
}

std::int32_t sketch_bin(float x, int exponent) {
  return static_cast<std::int32_t>(std::floor(std::ldexp(static_cast<double>(x), -exponent)));
}

BlockMoments moments(const float* x, std::size_t count) {
  BlockMoments result{{INT32_MAX, INT32_MIN}, 0, 0, 0};
  for (std::size_t i = 0; i < count; ++i) {
    result.range.min = std::min(result.range.min, ordered_bits(x[i]));
    result.range.max = std::max(result.range.max, ordered_bits(x[i]));
    result.total += static_cast<double>(x[i]);
    result.total_abs += std::fabs(static_cast<double>(x[i]));
    result.total_squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return result;
}

double candidate_loss(const float* x, std::size_t count, const CandidateGrid& grid, std::size_t candidate) {
  double loss = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const float value = grid.magnitude ? std::fabs(x[i]) : x[i];
    const float clipped = clip(value, grid.lower, grid.upper[candidate]);
    const float restored = std::round(clipped / grid.step[candidate]) * grid.step[candidate];
    const double error = static_cast<double>(restored) - static_cast<double>(value);
    loss += error * error;
  }
  return loss;
}

Range ifmr(std::vector<float> values, const IfmrParams& params) {
  const std::vector<float> data = values;
  const std::size_t top = percentile_rank(params.max_percentile, values.size());
  const std::size_t bottom = percentile_rank(params.min_percentile, values.size());
  std::sort(values.begin(), values.end());
  const float max_init = std::max(values[values.size() - top], 0.0f);
  const float min_init = std::min(values[bottom - 1], 0.0f);
  const CandidateRanges candidates = candidate_ranges(min_init, max_init, params);
  std::size_t best = 0;
  double best_loss = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < candidates.upper.size(); ++i) {
    const double loss = candidate_loss(data.data(), data.size(), candidates.grid(), i);
    if (loss < best_loss) {
      best_loss = loss;
      best = i;
    }
  }
  return candidates.range(best);
}

}  // namespace ort_quant::reference
