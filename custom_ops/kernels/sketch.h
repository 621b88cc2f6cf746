// The sketch: a mergeable summary of every value a tensor took, on a grid that depends on the data alone.
//
// Non-zero values are counted in bins [i·2^k, (i+1)·2^k), −8192 <= i < 8192, exact zeros apart:
//
//   k = clamp(floor(log2(max |x|)) − 12, −120, 115)
//
// A larger value makes k grow, and bins merge in pairs: i → floor(i/2). So counts, grid, minimum and maximum depend on
// the data alone, not on its order, its batches, threads or the instruction set. The three sums are rounded: the same
// for any number of threads and any instruction set, but not for another split into batches.
//
// ort_quant_plugin/calibration/sketch.py is the twin of this class and reads what it serializes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "distribution.h"
#include "float16.h"
#include "float_order.h"
#include "kernel_table.h"
#include "range.h"
#include "span.h"

namespace ort_quant {

inline constexpr int kMinExponent = -120;  // 2^-k stays a normal float
inline constexpr int kMaxExponent = 115;   // the largest float has a bin

inline constexpr std::size_t kLongestKey = 65535;

// k for values up to this magnitude (finite, not negative).
int grid_exponent(float magnitude);

// The counters of a sketch. Each side of zero takes 32 KiB once it has values, 96 KiB after 2^32 values.
class BinCounts {
 public:
  int exponent() const { return exponent_; }

  // Makes the grid coarser, unless it is as coarse already.
  void coarsen(int exponent);

  // Takes `total` (below 2^32) counts of the bins first … last on the grid `exponent` out of the copies behind
  // middle[first], as count_bins leaves them.
  void drain(std::uint32_t* middle, std::int32_t first, std::int32_t last, std::uint64_t total, int exponent,
             const KernelTable& kernels);

  void merge(const BinCounts& other);

  std::uint64_t operator[](std::int32_t bin) const;

 private:
  // Bin −8192 + i or i, the same for both sides; empty until needed.
  struct Side {
    std::vector<std::uint32_t> recent;
    std::vector<std::uint64_t> carried;
  };

  static Side& allocated(Side& side);
  void drain_side(Side& side, std::int32_t origin, std::uint32_t* middle, std::int32_t first, std::int32_t last,
                  int shift, const KernelTable& kernels);
  void carry();

  Side negative_;
  Side positive_;
  std::uint64_t recent_total_ = 0;
  int exponent_ = kMinExponent;
};

// Where the channels of a tensor [outer, channels, inner] are.
struct ChannelLayout {
  std::size_t channels = 0;  // 0: no channels
  std::size_t inner = 1;
};

struct SketchMoments {
  OrderedRange range{kOrderedPositiveInfinity, kOrderedNegativeInfinity};
  std::uint64_t count = 0;  // finite values
  std::uint64_t zeros = 0;
  std::uint64_t nan = 0;
  std::uint64_t positive_infinity = 0;
  std::uint64_t negative_infinity = 0;
  double total = 0;
  double total_abs = 0;
  double total_squares = 0;

  void merge(const SketchMoments& other);
};

class Sketch {
 public:
  // Adds a tensor. NaN and infinities are counted apart. The channel count must be the same each time. When memory runs
  // out, the sketch is as before or empty.
  void add(Span<const float> values, const KernelTable& kernels, const ForEach& for_each, ChannelLayout layout = {});
  void add(Span<const Half> values, const KernelTable& kernels, const ForEach& for_each, ChannelLayout layout = {});

  // Adds another sketch of the same channels.
  void merge(const Sketch& other);

  const SketchMoments& moments() const { return moments_; }
  bool empty() const { return moments_.count == 0; }
  Distribution distribution() const;

  // Serialized form, version 1. With an axis, the range of each channel along it is part of the form. The key has at most
  // kLongestKey bytes.
  std::vector<std::uint8_t> serialize(const std::string& key, std::optional<std::int32_t> axis = {}) const;

 private:
  template <class T>
  void add_parts(Span<const T> values, const KernelTable& kernels, const ForEach& for_each, ChannelLayout layout);

  BinCounts bins_;
  SketchMoments moments_;
  std::vector<std::int32_t> channel_min_;  // ordered bits
  std::vector<std::int32_t> channel_max_;
};

}  // namespace ort_quant
