#include "ifmr.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

namespace ort_quant {
namespace {

// Keeps the best `rank` values seen and prunes with nth_element each time the buffer has doubled.
template <class Better>
float nth_best(Span<const float> values, std::size_t rank, Better better) {
  const std::size_t capacity = std::min(values.size, 2 * rank + 4096);
  std::vector<float> kept;
  kept.reserve(capacity);
  const auto prune = [&] {
    std::nth_element(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(rank - 1), kept.end(), better);
    kept.resize(rank);
    return kept[rank - 1];
  };
  std::size_t i = 0;
  for (; kept.size() < capacity; ++i) kept.push_back(values[i]);
  float threshold = prune();
  for (; i < values.size; ++i) {
    if (!better(values[i], threshold)) continue;
    kept.push_back(values[i]);
    if (kept.size() == capacity) threshold = prune();
  }
  return prune();
}

}  // namespace

std::size_t candidate_count(const IfmrParams& params) {
  const float span = params.end - params.start;
  const float quotient = span / params.step;
  return static_cast<std::size_t>(quotient + 1.0f);
}

std::size_t percentile_rank(float percentile, std::size_t count) {
  if (std::fabs(percentile - 1.0f) < std::numeric_limits<float>::epsilon()) return 1;
  constexpr std::size_t kExactFloatCount = std::size_t{1} << 24;
  const double product = count <= kExactFloatCount
                             ? static_cast<double>(percentile * static_cast<float>(count))
                             : static_cast<double>(percentile) * static_cast<double>(count);
  const auto below = static_cast<std::size_t>(product);
  return below < count ? count - below : 1;
}

float nth_largest(Span<const float> values, std::size_t rank) {
  return nth_best(values, rank, std::greater<float>());
}

float nth_smallest(Span<const float> values, std::size_t rank) { return nth_best(values, rank, std::less<float>()); }

CandidateRanges candidate_ranges(float min_init, float max_init, const IfmrParams& params) {
  const float half_range = std::ldexp(1.0f, params.bits - 1);
  const bool positive = std::fabs(max_init) > std::fabs(min_init);
  const float magnitude = positive ? std::fabs(max_init) : std::fabs(min_init);
  const float levels = params.asymmetric ? 2.0f * half_range - 1.0f : (positive ? half_range - 1.0f : half_range);
  const float base = params.asymmetric ? max_init : magnitude;

  CandidateRanges candidates;
  candidates.lower = params.asymmetric ? min_init : 0.0f;
  candidates.symmetric = !params.asymmetric;
  candidates.bits = params.bits;
  const std::size_t count = candidate_count(params);
  for (std::size_t i = 0; i < count; ++i) {
    const float upper = (params.start + static_cast<float>(i) * params.step) * base;
    const float width = upper - candidates.lower;
    if (width < 0) continue;
    const float scale = sanitise_scale(width / levels, kSmallestScale);
    candidates.upper.push_back(upper);
    candidates.inverse.push_back(1.0f / scale);
    candidates.step.push_back(scale);
  }
  if (candidates.upper.empty()) throw CalibrationFailure("no candidate range has a positive width");
  return candidates;
}

Range CandidateRanges::range(std::size_t candidate) const {
  const float scale = step[candidate];
  if (symmetric) return {scale, 0};
  const float half_range = std::ldexp(1.0f, bits - 1);
  return {scale, static_cast<std::int32_t>(-std::round(lower / scale) - half_range)};
}

std::size_t least_loss(const std::vector<double>& losses) {
  const auto best = std::min_element(losses.begin(), losses.end());
  if (!std::isfinite(*best)) {
    throw CalibrationFailure("its values are too large: the squared quantization error overflows float32");
  }
  return static_cast<std::size_t>(best - losses.begin());
}

Range ifmr(Span<const float> values, const IfmrParams& params, const KernelTable& kernels, const ForEach& for_each) {
  const float max_init = std::max(nth_largest(values, percentile_rank(params.max_percentile, values.size)), 0.0f);
  const float min_init = std::min(nth_smallest(values, percentile_rank(params.min_percentile, values.size)), 0.0f);
  const CandidateRanges candidates = candidate_ranges(min_init, max_init, params);
  const CandidateGrid grid = candidates.grid();

  // One row of partial losses per chunk, added up in chunk order: the same sum for any number of threads.
  constexpr std::size_t kChunk = std::size_t{1} << 17;
  const std::size_t chunks = (values.size + kChunk - 1) / kChunk;
  std::vector<double> partial(chunks * grid.count, 0.0);
  for_each(chunks, [&](std::size_t chunk) {
    const std::size_t begin = chunk * kChunk;
    const std::size_t count = std::min(kChunk, values.size - begin);
    kernels.add_candidate_losses(values.data + begin, count, grid, &partial[chunk * grid.count]);
  });
  std::vector<double> losses(grid.count, 0.0);
  for (std::size_t i = 0; i < partial.size(); ++i) losses[i % grid.count] += partial[i];
  return candidates.range(least_loss(losses));
}

}  // namespace ort_quant
