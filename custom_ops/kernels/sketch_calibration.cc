#include "sketch_calibration.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

namespace ort_quant {
namespace {

constexpr int kMostBitsCoarserThanBins = 8;

// ---- IFMR ------------------------------------------------------------------------------------------------------

double square(double x) { return x * x; }

// Rounding halves to even or away from zero gives errors of equal magnitude, so rint does for round.
double candidate_loss(const WeightedPoints& points, double lower, double upper, double step, bool coarse) {
  double loss = 0;
  for (std::size_t i = 0; i < points.values.size(); ++i) {
    const double value = points.values[i];
    const double clipped = std::min(std::max(value, lower), upper);
    const double restored = coarse ? std::rint(clipped / step) * step : clipped;
    const double rounding = coarse || clipped != value ? 0 : step * step / 12;
    loss += points.weights[i] * (square(restored - value) + rounding);
  }
  return loss;
}

// ---- HFMG ------------------------------------------------------------------------------------------------------

std::vector<std::uint64_t> histogram_of(const Distribution& distribution, std::size_t bins) {
  const double minimum = distribution.minimum;
  const double width = (distribution.maximum - minimum) / static_cast<double>(bins);
  std::vector<std::uint64_t> counts(bins, 0);
  if (width < FLT_EPSILON) {
    counts[bins / 2] = distribution.count;
    return counts;
  }
  std::vector<double> edges(bins + 1);
  for (std::size_t i = 0; i <= bins; ++i) edges[i] = minimum + static_cast<double>(i) * width;
  std::vector<double> below = cumulative(distribution, edges);
  below.back() = static_cast<double>(distribution.count);
  for (std::size_t i = 0; i < bins; ++i) {
    counts[i] = static_cast<std::uint64_t>(below[i + 1]) - static_cast<std::uint64_t>(below[i]);
  }
  return counts;
}

// Losses of candidate ranges in squared bins, each in a time that does not depend on the number of bins.
//
// With n(x) the number of values below x, which is linear inside a bin, d the width of a cell and c its centre,
// integration by parts over a cell [a, b] gives ∫ (x − c)² dn = d²/4·(n(b) − n(a)) − d·(N(a) + N(b)) + 2·(M(b) − M(a))
// where N' = n and M' = N. Over the cells of a range the first and the last terms telescope.
class RangeLosses {
 public:
  explicit RangeLosses(const std::vector<std::uint64_t>& counts)
      : counts_(counts.begin(), counts.end()), below_{0}, first_{0}, second_{0}, positions_{0}, squares_{0} {
    counts_.push_back(0);  // the density at the last edge
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const double count = counts_[i];
      const double centre = static_cast<double>(i) + 0.5;
      second_.push_back(second_[i] + first_[i] + below_[i] / 2 + count / 6);
      first_.push_back(first_[i] + below_[i] + count / 2);
      below_.push_back(below_[i] + count);
      positions_.push_back(positions_[i] + count * centre);
      squares_.push_back(squares_[i] + count * (centre * centre + 1.0 / 12));
    }
  }

  // `cells` cells over the bins left … right; what lies outside is rounded to the centre of the outer cell.
  double loss(BinRange range, std::size_t cells, bool coarse) const {
    const std::size_t end = range.right + 1;
    const auto length = static_cast<double>(end - range.left);
    const double cell = length / static_cast<double>(cells);
    const double inside = below_[end] - below_[range.left];
    const double clipped = distance(0, range.left, static_cast<double>(range.left) + cell / 2) +
                           distance(end, counts_.size() - 1, static_cast<double>(end) - cell / 2);
    if (!coarse) return clipped + inside * cell * cell / 12;
    double edges = (first_[range.left] + first_[end]) / 2;
    for (std::size_t i = 1; i < cells; ++i) {
      const double share = static_cast<double>(i) / static_cast<double>(cells);
      edges += first_at(static_cast<double>(range.left) + length * share);
    }
    return clipped + inside * cell * cell / 4 - 2 * (cell * edges - (second_[end] - second_[range.left]));
  }

 private:
  // Squared distance of the bins [begin, end) to a point.
  double distance(std::size_t begin, std::size_t end, double point) const {
    return (squares_[end] - squares_[begin]) - 2 * point * (positions_[end] - positions_[begin]) +
           point * point * (below_[end] - below_[begin]);
  }

  double first_at(double position) const {
    const auto bin = static_cast<std::size_t>(position);
    const double within = position - static_cast<double>(bin);
    return first_[bin] + within * (below_[bin] + within * counts_[bin] / 2);
  }

  std::vector<double> counts_;
  // At the edges of bins, in bins:
  std::vector<double> below_;      // n
  std::vector<double> first_;      // N
  std::vector<double> second_;     // M
  std::vector<double> positions_;  // Σ x
  std::vector<double> squares_;    // Σ x²
};

}  // namespace

Range ifmr(const Distribution& distribution, const IfmrParams& params, const ForEach& for_each) {
  const std::uint64_t top = percentile_rank(params.max_percentile, distribution.count);
  const std::uint64_t bottom = percentile_rank(params.min_percentile, distribution.count);
  const float max_init = std::max(static_cast<float>(nth_largest(distribution, top)), 0.0f);
  const float min_init = std::min(static_cast<float>(nth_smallest(distribution, bottom)), 0.0f);
  const CandidateRanges candidates = candidate_ranges(min_init, max_init, params);
  const WeightedPoints points = candidates.symmetric ? magnitude_centres(distribution) : bin_centres(distribution);
  const bool coarse = params.bits <= kMostBitsCoarserThanBins;
  std::vector<double> losses(candidates.upper.size());
  for_each(losses.size(), [&](std::size_t i) {
    losses[i] = candidate_loss(points, candidates.lower, candidates.upper[i], candidates.step[i], coarse);
  });
  return candidates.range(least_loss(losses));
}

Range hfmg(const Distribution& distribution, const HfmgParams& params) {
  const float low = distribution.minimum;
  const float high = distribution.maximum;
  if (!std::isfinite(high - low)) refuse_span(low, high);
  const std::vector<std::uint64_t> counts = histogram_of(distribution, params.bins);
  const float width = (high - low) / static_cast<float>(params.bins);
  const RangeLosses losses(counts);
  const bool coarse = params.bits <= kMostBitsCoarserThanBins;
  const std::size_t cells = std::size_t{1} << params.bits;
  const std::vector<BinRange> ranges = search_ranges(counts);
  BinRange best = ranges.front();
  double best_loss = HUGE_VAL;
  for (BinRange range : ranges) {
    const double cell = static_cast<double>(range.right - range.left + 1) / static_cast<double>(cells);
    const double loss = cell * static_cast<double>(width) < FLT_EPSILON ? 0 : losses.loss(range, cells, coarse);
    if (loss < best_loss) {
      best_loss = loss;
      best = range;
    }
  }
  return range_of(best, low, width, params);
}

}  // namespace ort_quant
