// HFMG: calibration on a histogram of constant size, searching the sub-range of least L2 error.
//
// Each source bin is taken as uniformly filled; a candidate range [left, right] of bins is cut into 2^b destination
// bins of width dw, and the loss is the integral of the squared distance to the centre of the nearest one.
//
// As in AMCT, all values count in the middle bin if bins are narrower than FLT_EPSILON, and dw < FLT_EPSILON means
// loss 0. So for data that narrow the first candidate wins: the bins right of the middle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel_table.h"
#include "range.h"
#include "span.h"

namespace ort_quant {

struct HfmgParams {
  int bits = 8;
  bool asymmetric = true;
  std::size_t bins = 4096;
};

// Bins left … right of a histogram.
struct BinRange {
  std::size_t left;
  std::size_t right;
};

// The candidates: the full range shrinks from the side where few counts lie over many bins, down to a quarter of the bins.
std::vector<BinRange> search_ranges(const std::vector<std::uint64_t>& counts);

// Scale and offset of a candidate, where the histogram begins at `low`.
Range range_of(BinRange range, float low, float width, const HfmgParams& params);

// CalibrationFailure for data whose range is wider than float32 can hold.
[[noreturn]] void refuse_span(float low, float high);

// Counts of all batches so far over their common range.
class Histogram {
 public:
  explicit Histogram(std::size_t bins);

  // Adds a batch (finite values, not empty); the range grows to the union and old counts are redistributed linearly.
  // CalibrationFailure, and nothing changed, if the union is wider than float32 can hold.
  void add(Span<const float> batch, const KernelTable& kernels, const ForEach& for_each);

  bool empty() const { return total_ == 0; }
  float min() const { return min_; }
  float max() const { return max_; }
  const std::vector<std::uint64_t>& counts() const { return counts_; }

 private:
  void count(Span<const float> batch, const ForEach& for_each);
  void redistribute(const std::vector<std::uint64_t>& old_counts, float old_min, float old_max);
  float bin_width() const { return (max_ - min_) / static_cast<float>(counts_.size()); }
  std::size_t bin_of(float value, float width) const;

  std::vector<std::uint64_t> counts_;
  float min_ = 0;
  float max_ = 0;
  std::uint64_t total_ = 0;
};

// The search. The histogram must not be empty.
Range hfmg(const Histogram& histogram, const HfmgParams& params);

}  // namespace ort_quant
