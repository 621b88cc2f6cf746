#include "hfmg.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <string>

namespace ort_quant {
namespace {

// ∫ x² over [begin, end] at constant density.
float square_norm(float begin, float end, float density) {
  return density * (end * end * end - begin * begin * begin) / 3.0f;
}

float range_loss(const std::vector<std::uint64_t>& counts, float width, BinRange range, int bits) {
  const auto last = static_cast<std::int64_t>((std::int64_t{1} << bits) - 1);
  const float dst_width = width * static_cast<float>(range.right - range.left + 1) / static_cast<float>(last + 1);
  if (dst_width < FLT_EPSILON) return 0.0f;
  const auto destination = [&](float position) {
    const auto bin = static_cast<std::int64_t>(std::floor(position / dst_width));
    return std::clamp<std::int64_t>(bin, 0, last);
  };
  const auto centre = [&](std::int64_t bin) { return static_cast<float>(bin) * dst_width + dst_width / 2; };
  float loss = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    // A signed position: bins left of the range lie at negative places. (AMCT subtracts unsigned indices.)
    const auto index = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(range.left);
    const float begin = static_cast<float>(index) * width;
    const float end = begin + width;
    const float density = static_cast<float>(counts[i]) / width;
    const std::int64_t first = destination(begin);
    const std::int64_t final = destination(end);
    const float from = begin - centre(first);
    if (first == final) {
      loss += square_norm(from, end - centre(first), density);
    } else {
      loss += square_norm(from, dst_width / 2, density);
      loss += static_cast<float>(final - first - 1) * square_norm(-dst_width / 2, dst_width / 2, density);
      loss += square_norm(-dst_width / 2, end - centre(final), density);
    }
  }
  return loss;
}

}  // namespace

std::vector<BinRange> search_ranges(const std::vector<std::uint64_t>& counts) {
  std::uint64_t total = 0;
  for (std::uint64_t count : counts) total += count;
  const std::uint64_t quota = std::max<std::uint64_t>((total + 99999) / 100000, 1);
  const std::size_t min_bins = (counts.size() + 3) / 4;
  std::vector<BinRange> ranges;
  std::size_t left = 0;
  std::size_t right = counts.size() - 1;
  while (right - left > min_bins) {
    std::size_t next_left = left;
    for (std::uint64_t passed = 0; passed < quota && next_left < right; ++next_left) passed += counts[next_left];
    std::size_t next_right = right;
    for (std::uint64_t passed = 0; passed < quota && next_right > next_left; --next_right) {
      passed += counts[next_right];
    }
    if (next_left - left > right - next_right) {
      left = next_left;
    } else {
      right = next_right;
    }
    ranges.push_back({left, right});
  }
  // AMCT fails on a list left empty (few bins); the full range is the one sensible candidate then.
  if (ranges.empty()) ranges.push_back({left, right});
  return ranges;
}

Range range_of(BinRange range, float low, float width, const HfmgParams& params) {
  const float begin = low + static_cast<float>(range.left) * width;
  const float end = low + static_cast<float>(range.right + 1) * width;
  return range_from_bounds(begin, end, params.bits, params.asymmetric, kSmallestHfmgScale);
}

void refuse_span(float low, float high) {
  throw CalibrationFailure("its values span from " + std::to_string(low) + " to " + std::to_string(high) +
                           ", wider than float32 can hold");
}

Histogram::Histogram(std::size_t bins) : counts_(bins, 0) {}

std::size_t Histogram::bin_of(float value, float width) const {
  const auto bin = static_cast<std::size_t>(std::max((value - min_) / width, 0.0f));
  return std::min(bin, counts_.size() - 1);
}

void Histogram::add(Span<const float> batch, const KernelTable& kernels, const ForEach& for_each) {
  const ScanResult scan = kernels.scan(batch.data, batch.size);
  const std::vector<std::uint64_t> old_counts = counts_;
  const float old_min = min_;
  const float old_max = max_;
  const bool first = empty();
  const float new_min = first ? scan.min : std::min(min_, scan.min);
  const float new_max = first ? scan.max : std::max(max_, scan.max);
  if (!std::isfinite(new_max - new_min)) refuse_span(new_min, new_max);
  min_ = new_min;
  max_ = new_max;
  std::fill(counts_.begin(), counts_.end(), 0);
  count(batch, for_each);
  if (!first) redistribute(old_counts, old_min, old_max);
  total_ += batch.size;
}

void Histogram::count(Span<const float> batch, const ForEach& for_each) {
  const float width = bin_width();
  if (width < FLT_EPSILON) {
    counts_[counts_.size() / 2] += batch.size;
    return;
  }
  constexpr std::size_t kMaxParts = 16;
  constexpr std::size_t kMinPart = std::size_t{1} << 16;
  const std::size_t parts = std::clamp<std::size_t>(batch.size / kMinPart, 1, kMaxParts);
  std::vector<std::vector<std::uint64_t>> partial(parts, std::vector<std::uint64_t>(counts_.size(), 0));
  for_each(parts, [&](std::size_t part) {
    const std::size_t begin = batch.size * part / parts;
    const std::size_t end = batch.size * (part + 1) / parts;
    for (std::size_t i = begin; i < end; ++i) ++partial[part][bin_of(batch[i], width)];
  });
  for (const std::vector<std::uint64_t>& one : partial) {
    for (std::size_t bin = 0; bin < counts_.size(); ++bin) counts_[bin] += one[bin];
  }
}

void Histogram::redistribute(const std::vector<std::uint64_t>& old_counts, float old_min, float old_max) {
  const bool same_range = std::fabs(old_min - min_) < FLT_EPSILON && std::fabs(old_max - max_) < FLT_EPSILON;
  const float width = bin_width();
  const float old_width = (old_max - old_min) / static_cast<float>(counts_.size());
  for (std::size_t i = 0; i < old_counts.size(); ++i) {
    const std::uint64_t count = old_counts[i];
    if (count == 0) continue;
    if (same_range) {
      counts_[i] += count;
      continue;
    }
    const float begin = old_min + static_cast<float>(i) * old_width;
    const float end = begin + old_width;
    const std::size_t low = bin_of(begin, width);
    const std::size_t high = bin_of(end, width);
    if (low == high) {
      counts_[low] += count;
      continue;
    }
    const float border = min_ + static_cast<float>(low + 1) * width;
    const float fraction = std::clamp((border - begin) / old_width, 0.0f, 1.0f);
    const auto lower_part = static_cast<std::uint64_t>(std::floor(static_cast<double>(count) * fraction));
    counts_[low] += lower_part;
    counts_[high] += count - lower_part;
  }
}

Range hfmg(const Histogram& histogram, const HfmgParams& params) {
  const float width = (histogram.max() - histogram.min()) / static_cast<float>(histogram.counts().size());
  const std::vector<BinRange> ranges = search_ranges(histogram.counts());
  BinRange best = ranges.front();
  float best_loss = std::numeric_limits<float>::infinity();
  for (BinRange range : ranges) {
    const float loss = range_loss(histogram.counts(), width, range, params.bits);
    if (loss < best_loss) {
      best_loss = loss;
      best = range;
    }
  }
  return range_of(best, histogram.min(), width, params);
}

}  // namespace ort_quant
