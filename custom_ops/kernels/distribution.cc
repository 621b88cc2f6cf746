#include "distribution.h"

#include <algorithm>
#include <cmath>

namespace ort_quant {
namespace {

// The value at a position (from 0) of the sorted data: the middle of its share of its bin.
double value_at(const Distribution& d, std::uint64_t position) {
  if (position == 0) return d.minimum;
  if (position + 1 >= d.count) return d.maximum;
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < d.counts.size(); before += d.counts[i++]) {
    const std::int64_t bin = d.first_bin + static_cast<std::int64_t>(i);
    const std::uint64_t zeros_before = bin < 0 ? 0 : d.zeros;
    if (position < before + zeros_before) break;
    const std::uint64_t rank = position - zeros_before;
    if (rank >= before + d.counts[i]) continue;
    const double share = (static_cast<double>(rank - before) + 0.5) / static_cast<double>(d.counts[i]);
    const double value = (static_cast<double>(bin) + share) * d.width();
    return std::clamp<double>(value, d.minimum, d.maximum);
  }
  return 0.0;  // among the zeros
}

WeightedPoints used_bins(std::int64_t first_bin, const std::vector<std::uint64_t>& counts, double width) {
  WeightedPoints points;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    points.values.push_back((static_cast<double>(first_bin + static_cast<std::int64_t>(i)) + 0.5) * width);
    points.weights.push_back(static_cast<double>(counts[i]));
  }
  return points;
}

}  // namespace

double Distribution::width() const { return std::ldexp(1.0, exponent); }

double nth_largest(const Distribution& distribution, std::uint64_t rank) {
  return value_at(distribution, distribution.count - rank);
}

double nth_smallest(const Distribution& distribution, std::uint64_t rank) { return value_at(distribution, rank - 1); }

std::vector<double> cumulative(const Distribution& d, const std::vector<double>& positions) {
  const std::size_t bins = d.counts.size();
  const double width = d.width();
  const auto edge = [&](std::size_t i) {
    const double at = (static_cast<double>(d.first_bin) + static_cast<double>(i)) * width;
    if (i == 0) return std::max<double>(at, d.minimum);
    return i == bins ? std::min<double>(at, d.maximum) : at;
  };
  std::vector<double> result;
  result.reserve(positions.size());
  std::size_t i = 0;  // the bin of the position
  double before = 0;  // counts of the bins before it
  for (double position : positions) {
    while (i < bins && position >= edge(i + 1)) before += static_cast<double>(d.counts[i++]);
    double below = before;
    if (bins > 0 && position <= edge(0)) {
      below = 0;
    } else if (i < bins) {
      const double slope = static_cast<double>(d.counts[i]) / (edge(i + 1) - edge(i));
      below = slope * (position - edge(i)) + before;
    }
    result.push_back(below + (position > 0 ? static_cast<double>(d.zeros) : 0.0));
  }
  return result;
}

WeightedPoints bin_centres(const Distribution& distribution) {
  return used_bins(distribution.first_bin, distribution.counts, distribution.width());
}

WeightedPoints magnitude_centres(const Distribution& distribution) {
  std::vector<std::uint64_t> folded;
  for (std::size_t i = 0; i < distribution.counts.size(); ++i) {
    const std::int64_t bin = distribution.first_bin + static_cast<std::int64_t>(i);
    const auto magnitude = static_cast<std::size_t>(bin < 0 ? -1 - bin : bin);
    if (magnitude >= folded.size()) folded.resize(magnitude + 1);
    folded[magnitude] += distribution.counts[i];
  }
  return used_bins(0, folded, distribution.width());
}

}  // namespace ort_quant
