// A sketch as the distribution it stands for, in float64: inside a bin values are taken as spread evenly; exact zeros,
// minimum and maximum are known. The twin of ort_quant_plugin/calibration/distribution.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ort_quant {

struct Distribution {
  int exponent = 0;                   // bins are 2^exponent wide
  std::int32_t first_bin = 0;         // counts[i] is of the bin first_bin + i
  std::vector<std::uint64_t> counts;  // non-zero values a bin; the first and the last one are above 0
  std::uint64_t count = 0;            // finite values, zeros included
  std::uint64_t zeros = 0;
  float minimum = 0;  // of the finite values; +inf without one
  float maximum = 0;  // −inf without one

  double width() const;
};

// The rank-th largest value (rank from 1, at most count); exact for the extremes and zeros, else within one bin.
double nth_largest(const Distribution& distribution, std::uint64_t rank);
double nth_smallest(const Distribution& distribution, std::uint64_t rank);

// Number of values below each of the positions, which ascend. The outermost bins end at the minimum and the maximum.
std::vector<double> cumulative(const Distribution& distribution, const std::vector<double>& positions);

// Non-zero values as the centres of their bins, in ascending order.
struct WeightedPoints {
  std::vector<double> values;
  std::vector<double> weights;
};
WeightedPoints bin_centres(const Distribution& distribution);
// The same of the magnitudes, where a negative value on an edge counts one bin lower than its mirror image would.
WeightedPoints magnitude_centres(const Distribution& distribution);

}  // namespace ort_quant
