// The kernels that feed a sketch; part of kernels-inl.h, whose rules hold here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "float_order.h"
#include "kernel_table.h"

namespace ort_quant {
namespace {

template <class Vec>
typename Vec::Ints ordered(Vec v) {
  using Ints = typename Vec::Ints;
  const Ints pattern = bits(v);
  return pattern ^ (sign(pattern) & Ints::broadcast(0x7FFFFFFF));
}

template <class Vec>
OrderedRange reduced(typename Vec::Ints smallest, typename Vec::Ints largest) {
  std::int32_t lanes[Vec::kLanes];
  OrderedRange range{INT32_MAX, INT32_MIN};
  smallest.store(lanes);
  for (std::int32_t lane : lanes) range.min = lane < range.min ? lane : range.min;
  largest.store(lanes);
  for (std::int32_t lane : lanes) range.max = lane > range.max ? lane : range.max;
  return range;
}

template <class Doubles>
double sum_double_lanes(Doubles v) {
  double lanes[8];
  v.store(lanes);
  for (std::size_t width = 4; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

template <class Vec>
BlockMoments moments(const float* x, std::size_t count) {
  using Ints = typename Vec::Ints;
  using Doubles = typename Vec::Doubles;
  constexpr std::size_t kLanes = Vec::kLanes;
  Ints smallest = Ints::broadcast(INT32_MAX);
  Ints largest = Ints::broadcast(INT32_MIN);
  Doubles total = Doubles::zero();
  Doubles total_abs = Doubles::zero();
  Doubles total_squares = Doubles::zero();
  const auto add_range = [&](Vec v) {
    smallest = min(smallest, ordered(v));
    largest = max(largest, ordered(v));
  };
  const auto add_sums = [&](Vec v) {
    const Doubles low = widen_low(v);
    const Doubles high = widen_high(v);
    total = total + low + high;
    total_abs = total_abs + abs(low) + abs(high);
    total_squares = add_square(add_square(total_squares, low), high);
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = Vec::load(x + i);
    add_range(v);
    add_sums(v);
  }
  if (i < count) {
    float repeated[kLanes];
    float padded[kLanes];
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      repeated[lane] = i + lane < count ? x[i + lane] : x[i];
      padded[lane] = i + lane < count ? x[i + lane] : 0.0f;
    }
    add_range(Vec::load(repeated));
    add_sums(Vec::load(padded));
  }
  return {reduced<Vec>(smallest, largest), sum_double_lanes(total), sum_double_lanes(total_abs),
          sum_double_lanes(total_squares)};
}

// The bin of a positive value is its magnitude in bins, rounded down. That of a negative one is −1 − the same of the
// next float towards zero, which is exact at the borders of bins and where the product is too small for a float.
template <class Vec>
std::size_t count_bins(const float* x, std::size_t count, float inverse_width, std::uint32_t* middle) {
  using Ints = typename Vec::Ints;
  constexpr std::size_t kLanes = Vec::kLanes;
  std::int32_t bins[kSketchBlock + kLanes];
  std::size_t used = 0;
  const Vec inverse = Vec::broadcast(inverse_width);
  const auto store_bins = [&](Vec v) {
    const Ints pattern = bits(v);
    const Ints negative = sign(pattern);
    const Ints magnitude = pattern & Ints::broadcast(0x7FFFFFFF);
    const Ints bin = truncate(Vec::from_bits(magnitude + negative) * inverse) ^ negative;
    used += store_where(magnitude, bin, bins + used);
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_bins(Vec::load(x + i));
  if (i < count) {
    float padded[kLanes] = {};
    for (std::size_t lane = 0; i + lane < count; ++lane) padded[lane] = x[i + lane];
    store_bins(Vec::load(padded));
  }
  std::size_t j = 0;
  for (; j + kCounterCopies <= used; j += kCounterCopies) {
#pragma GCC unroll 8
    for (std::size_t copy = 0; copy < kCounterCopies; ++copy) ++middle[copy * kCounterStride + bins[j + copy]];
  }
  for (; j < used; ++j) ++middle[bins[j]];
  return count - used;
}

void drain_counters(std::uint32_t* counters, std::uint32_t* target, std::size_t count) {
  for (std::size_t copy = 0; copy < kCounterCopies; ++copy) {
    std::uint32_t* source = counters + copy * kCounterStride;
    for (std::size_t i = 0; i < count; ++i) {
      target[i] += source[i];
      source[i] = 0;
    }
  }
}

// Lanes that are not finite become +inf for the minimum and −inf for the maximum.
template <class Vec>
void widen_lanes(Vec v, typename Vec::Ints& smallest, typename Vec::Ints& largest) {
  using Ints = typename Vec::Ints;
  const Ints magnitude = bits(v) & Ints::broadcast(0x7FFFFFFF);
  const Ints infinity = Ints::broadcast(kOrderedPositiveInfinity);
  const Ints order = ordered(v);
  smallest = min(smallest, select_less(magnitude, infinity, order, infinity));
  largest = max(largest, select_less(magnitude, infinity, order, Ints::broadcast(kOrderedNegativeInfinity)));
}

template <class Vec>
void widen_range(const float* x, std::size_t count, OrderedRange& range) {
  using Ints = typename Vec::Ints;
  constexpr std::size_t kLanes = Vec::kLanes;
  Ints smallest = Ints::broadcast(range.min);
  Ints largest = Ints::broadcast(range.max);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) widen_lanes(Vec::load(x + i), smallest, largest);
  if (i < count) {
    float repeated[kLanes];
    for (std::size_t lane = 0; lane < kLanes; ++lane) repeated[lane] = x[i + lane < count ? i + lane : i];
    widen_lanes(Vec::load(repeated), smallest, largest);
  }
  range = reduced<Vec>(smallest, largest);
}

template <class Vec>
void widen_ranges(const float* x, std::size_t count, std::int32_t* min, std::int32_t* max) {
  using Ints = typename Vec::Ints;
  constexpr std::size_t kLanes = Vec::kLanes;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Ints smallest = Ints::load(min + i);
    Ints largest = Ints::load(max + i);
    widen_lanes(Vec::load(x + i), smallest, largest);
    smallest.store(min + i);
    largest.store(max + i);
  }
  for (; i < count; ++i) {
    OrderedRange range{min[i], max[i]};
    widen_range<Vec>(x + i, 1, range);
    min[i] = range.min;
    max[i] = range.max;
  }
}

}  // namespace
}  // namespace ort_quant
