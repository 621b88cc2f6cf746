// IFMR, AMCT's default activation calibration: percentile bounds, then a search of the upper bound (asymmetric) or of
// the magnitude (symmetric) for the smallest squared quantization error.
//
//   (1) max_init = max(k_max-th largest, 0), min_init = min(k_min-th smallest, 0),  k = n − floor(p·n)
//   (2) c_i = (start + i·step)·max_init,  i = 0 … floor((end − start)/step + 1) − 1 in float32
//   (3) S_i = (c_i − min_init)/(2^b − 1);  loss_i = Σ (round(clip(x, min_init, c_i)/S_i)·S_i − x)²
//   (4) the first i of smallest loss;  S = S_i,  O = −round(min_init/S) − 2^(b−1)
//
// Symmetric: c_i scales the larger of |max_init| and |min_init| (a tie goes to min_init), S_i = c_i/L with L = 2^(b−1) − 1
// if max_init won and 2^(b−1) otherwise, clipping is to ±c_i, O = 0.
//
// Squared errors are summed in float32 within a block of 2048 values (16 sums of up to 128 each, then pairwise) and in
// float64 across blocks. AMCT has one running float32 sum.
#pragma once

#include <cstddef>
#include <vector>

#include "kernel_table.h"
#include "range.h"
#include "span.h"

namespace ort_quant {

struct IfmrParams {
  int bits = 8;
  bool asymmetric = true;
  float max_percentile = 0.999999f;
  float min_percentile = 0.999999f;
  float start = 0.7f;
  float end = 1.3f;
  float step = 0.01f;
};

// Number of candidates, (2). AMCT evaluates it in float32 and truncates: 60, not 61, for 0.7 … 1.3 by 0.01.
std::size_t candidate_count(const IfmrParams& params);

// k of (1), within [1, count]. AMCT's float32 product up to 2^24 values, where float32 stops counting; double beyond.
std::size_t percentile_rank(float percentile, std::size_t count);

// The rank-th largest value (rank from 1). O(count) time, O(rank) memory beyond the data; values must not be NaN.
float nth_largest(Span<const float> values, std::size_t rank);
float nth_smallest(Span<const float> values, std::size_t rank);

struct CandidateRanges {
  std::vector<float> upper;
  std::vector<float> inverse;
  std::vector<float> step;
  float lower;
  bool symmetric;
  int bits;

  CandidateGrid grid() const { return {upper.data(), inverse.data(), step.data(), upper.size(), lower, symmetric}; }
  Range range(std::size_t candidate) const;
};

// (2) and (3) without the loss. Candidates whose scale would be negative are left out (AMCT keeps them with loss 0,
// so they would win); CalibrationFailure if none is left or a scale is too large.
CandidateRanges candidate_ranges(float min_init, float max_init, const IfmrParams& params);

// Where the smallest loss is, first of equals. CalibrationFailure if none is finite.
std::size_t least_loss(const std::vector<double>& losses);

// The whole search. Values must be finite and not empty. The result does not depend on how `for_each` spreads work.
Range ifmr(Span<const float> values, const IfmrParams& params, const KernelTable& kernels, const ForEach& for_each);

}  // namespace ort_quant
