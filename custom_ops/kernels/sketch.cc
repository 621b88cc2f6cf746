#include "sketch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <type_traits>

namespace ort_quant {
namespace {

constexpr std::int32_t kBins = kBinsPerSide;
constexpr std::uint64_t kMostRecent = UINT32_MAX;

// Counters of one thread, all zero between uses. One more than a part needs at either end is never touched.
struct Scratch {
  alignas(64) std::uint32_t counters[kCounterCopies * kCounterStride];

  std::uint32_t* middle() { return counters + kBins; }
};
thread_local Scratch scratch;

// floor(x·2^-k) of a value given as ordered bits. A negative subnormal may count as zero in arithmetic, but has bin −1.
std::int32_t bin_of(std::int32_t ordered, int exponent) {
  const double position = std::ldexp(static_cast<double>(float_from_ordered(ordered)), -exponent);
  const auto bin = static_cast<std::int32_t>(std::floor(position));
  return ordered < -1 ? std::min(bin, -1) : bin;
}

// Adds up counters in groups of 2^shift, where `first` is the one next to zero and `step` leads away from zero.
template <class T>
void merge_bins(T* first, std::ptrdiff_t step, int shift) {
  for (std::ptrdiff_t i = 1; i < kBins; ++i) {
    const T count = first[i * step];
    first[i * step] = 0;
    first[(i >> shift) * step] += count;
  }
}

// ---- one part of a tensor --------------------------------------------------------------------------------------

// Runs along blocks of consecutive values and keeps the range of each channel.
class ChannelRanges {
 public:
  explicit ChannelRanges(ChannelLayout layout)
      : layout_(layout),
        min_(layout.channels, kOrderedPositiveInfinity),
        max_(layout.channels, kOrderedNegativeInfinity) {}

  // Values from position `begin` of the tensor on.
  void add(const float* x, std::size_t begin, std::size_t count, const KernelTable& kernels) {
    if (layout_.channels == 0) return;
    while (count > 0) {
      const std::size_t channel = begin / layout_.inner % layout_.channels;
      std::size_t run;
      if (layout_.inner == 1) {
        run = std::min(count, layout_.channels - channel);
        kernels.widen_ranges(x, run, &min_[channel], &max_[channel]);
      } else {
        run = std::min(count, layout_.inner - begin % layout_.inner);
        OrderedRange range{min_[channel], max_[channel]};
        kernels.widen_range(x, run, range);
        min_[channel] = range.min;
        max_[channel] = range.max;
      }
      x += run;
      begin += run;
      count -= run;
    }
  }

  void merge_into(std::vector<std::int32_t>& min, std::vector<std::int32_t>& max) const {
    for (std::size_t c = 0; c < layout_.channels; ++c) {
      min[c] = std::min(min[c], min_[c]);
      max[c] = std::max(max[c], max_[c]);
    }
  }

 private:
  ChannelLayout layout_;
  std::vector<std::int32_t> min_;
  std::vector<std::int32_t> max_;
};

// Counts blocks in this thread's scratch counters and drains them into the sketch's.
class PartCounter {
 public:
  PartCounter(BinCounts& bins, std::mutex& mutex, const KernelTable& kernels, int exponent)
      : bins_(bins), mutex_(mutex), kernels_(kernels), exponent_(exponent) {}
  ~PartCounter() {
    if (pending_ > 0) std::memset(scratch.counters, 0, sizeof scratch.counters);  // only when drain() failed
  }
  PartCounter(const PartCounter&) = delete;
  PartCounter& operator=(const PartCounter&) = delete;

  // At most kSketchBlock values.
  void add(const float* x, std::size_t count) {
    BlockMoments block = kernels_.moments(x, count);
    float finite[kSketchBlock];
    if (block.range.min <= kOrderedNegativeInfinity || block.range.max >= kOrderedPositiveInfinity) {
      count = keep_finite(x, count, finite);
      if (count == 0) return;
      x = finite;
      block = kernels_.moments(x, count);
    }
    const float min = float_from_ordered(block.range.min);
    const float max = float_from_ordered(block.range.max);
    const int exponent = grid_exponent(std::max(std::fabs(min), std::fabs(max)));
    if (exponent > exponent_ || pending_ + count > kMostRecent) drain();
    exponent_ = std::max(exponent_, exponent);
    moments_.zeros += kernels_.count_bins(x, count, std::ldexp(1.0f, -exponent_), scratch.middle());
    moments_.count += count;
    moments_.total += block.total;
    moments_.total_abs += block.total_abs;
    moments_.total_squares += block.total_squares;
    pending_ += count;
    pending_range_.min = std::min(pending_range_.min, block.range.min);
    pending_range_.max = std::max(pending_range_.max, block.range.max);
    moments_.range.min = std::min(moments_.range.min, block.range.min);
    moments_.range.max = std::max(moments_.range.max, block.range.max);
  }

  void drain() {
    if (pending_ == 0) return;
    const std::int32_t first = bin_of(pending_range_.min, exponent_);
    const std::int32_t last = bin_of(pending_range_.max, exponent_);
    const std::lock_guard<std::mutex> lock(mutex_);
    bins_.drain(scratch.middle(), first, last, pending_, exponent_, kernels_);
    pending_ = 0;
    pending_range_ = SketchMoments().range;
  }

  const SketchMoments& moments() const { return moments_; }

 private:
  std::size_t keep_finite(const float* x, std::size_t count, float* finite) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int32_t order = ordered_bits(x[i]);
      if (order > kOrderedNegativeInfinity && order < kOrderedPositiveInfinity) {
        finite[kept++] = x[i];
      } else if (order == kOrderedPositiveInfinity) {
        ++moments_.positive_infinity;
      } else if (order == kOrderedNegativeInfinity) {
        ++moments_.negative_infinity;
      } else {
        ++moments_.nan;
      }
    }
    return kept;
  }

  BinCounts& bins_;
  std::mutex& mutex_;
  const KernelTable& kernels_;
  int exponent_;
  std::uint64_t pending_ = 0;
  OrderedRange pending_range_ = SketchMoments().range;
  SketchMoments moments_;
};

const float* as_block(const float* x, std::size_t, float*, const KernelTable&) { return x; }
const float* as_block(const Half* x, std::size_t count, float* buffer, const KernelTable& kernels) {
  kernels.widen(x, buffer, count);
  return buffer;
}

}  // namespace

int grid_exponent(float magnitude) {
  const auto biased = static_cast<int>(float_bits(magnitude) >> 23);  // of a subnormal 0
  return std::clamp(biased - 127 - 12, kMinExponent, kMaxExponent);
}

// ---- BinCounts -------------------------------------------------------------------------------------------------

BinCounts::Side& BinCounts::allocated(Side& side) {
  if (side.recent.empty()) side.recent.resize(kBins);
  return side;
}

void BinCounts::coarsen(int exponent) {
  const int shift = std::min(exponent - exponent_, 31);
  if (shift <= 0) return;
  exponent_ = exponent;
  if (!negative_.recent.empty()) merge_bins(&negative_.recent.back(), -1, shift);
  if (!negative_.carried.empty()) merge_bins(&negative_.carried.back(), -1, shift);
  if (!positive_.recent.empty()) merge_bins(positive_.recent.data(), 1, shift);
  if (!positive_.carried.empty()) merge_bins(positive_.carried.data(), 1, shift);
}

void BinCounts::carry() {
  for (Side* side : {&negative_, &positive_}) {
    if (side->recent.empty()) continue;
    side->carried.resize(kBins);
    for (std::size_t i = 0; i < side->recent.size(); ++i) side->carried[i] += side->recent[i];
    std::fill(side->recent.begin(), side->recent.end(), 0);
  }
  recent_total_ = 0;
}

void BinCounts::drain_side(Side& side, std::int32_t origin, std::uint32_t* middle, std::int32_t first,
                           std::int32_t last, int shift, const KernelTable& kernels) {
  std::uint32_t* target = allocated(side).recent.data() - origin;
  if (shift == 0) return kernels.drain_counters(middle + first, target + first, static_cast<std::size_t>(last - first + 1));
  for (std::int32_t bin = first; bin <= last; ++bin) {
    kernels.drain_counters(middle + bin, target + (bin >> shift), 1);
  }
}

void BinCounts::drain(std::uint32_t* middle, std::int32_t first, std::int32_t last, std::uint64_t total, int exponent,
                      const KernelTable& kernels) {
  if (recent_total_ + total > kMostRecent) carry();
  recent_total_ += total;
  coarsen(exponent);
  const int shift = std::min(exponent_ - exponent, 31);
  if (first < 0) drain_side(negative_, -kBins, middle, first, std::min(last, -1), shift, kernels);
  if (last >= 0) drain_side(positive_, 0, middle, std::max(first, 0), last, shift, kernels);
}

void BinCounts::merge(const BinCounts& other) {
  BinCounts added = other;
  added.coarsen(exponent_);
  coarsen(added.exponent_);
  if (recent_total_ + added.recent_total_ > kMostRecent) carry();
  recent_total_ += added.recent_total_;
  const auto add = [](auto& target, const auto& source) {
    if (source.empty()) return;
    target.resize(kBins);
    for (std::size_t i = 0; i < source.size(); ++i) target[i] += source[i];
  };
  add(negative_.recent, added.negative_.recent);
  add(negative_.carried, added.negative_.carried);
  add(positive_.recent, added.positive_.recent);
  add(positive_.carried, added.positive_.carried);
}

std::uint64_t BinCounts::operator[](std::int32_t bin) const {
  const Side& side = bin < 0 ? negative_ : positive_;
  const auto i = static_cast<std::size_t>(bin < 0 ? bin + kBins : bin);
  return (side.recent.empty() ? 0 : side.recent[i]) + (side.carried.empty() ? 0 : side.carried[i]);
}

// ---- Sketch ----------------------------------------------------------------------------------------------------

void SketchMoments::merge(const SketchMoments& other) {
  range.min = std::min(range.min, other.range.min);
  range.max = std::max(range.max, other.range.max);
  count += other.count;
  zeros += other.zeros;
  nan += other.nan;
  positive_infinity += other.positive_infinity;
  negative_infinity += other.negative_infinity;
  total += other.total;
  total_abs += other.total_abs;
  total_squares += other.total_squares;
}

template <class T>
void Sketch::add_parts(Span<const T> values, const KernelTable& kernels, const ForEach& for_each,
                       ChannelLayout layout) {
  if (layout.channels > 0 || !channel_min_.empty()) {
    channel_min_.resize(layout.channels, kOrderedPositiveInfinity);
    channel_max_.resize(layout.channels, kOrderedNegativeInfinity);
  }
  constexpr std::size_t kMaxParts = 16;
  constexpr std::size_t kMinPart = std::size_t{1} << 16;
  const std::size_t parts = std::clamp<std::size_t>(values.size / kMinPart, 1, kMaxParts);
  std::array<SketchMoments, kMaxParts> moments;
  std::array<std::exception_ptr, kMaxParts> failures;
  std::mutex mutex;
  const int exponent = bins_.exponent();
  for_each(parts, [&](std::size_t part) {
    try {
      PartCounter counter(bins_, mutex, kernels, exponent);
      ChannelRanges channels(layout);
      const std::size_t end = values.size * (part + 1) / parts;
      for (std::size_t begin = values.size * part / parts; begin < end; begin += kSketchBlock) {
        const std::size_t count = std::min(kSketchBlock, end - begin);
        float buffer[std::is_same_v<T, float> ? 1 : kSketchBlock];
        const float* block = as_block(values.data + begin, count, buffer, kernels);
        counter.add(block, count);
        channels.add(block, begin, count, kernels);
      }
      counter.drain();
      moments[part] = counter.moments();
      const std::lock_guard<std::mutex> lock(mutex);
      channels.merge_into(channel_min_, channel_max_);
    } catch (...) {
      failures[part] = std::current_exception();
    }
  });
  for (std::size_t part = 0; part < parts; ++part) {
    if (failures[part]) {
      *this = {};  // which values were counted before is not known
      std::rethrow_exception(failures[part]);
    }
    moments_.merge(moments[part]);
  }
}

void Sketch::add(Span<const float> values, const KernelTable& kernels, const ForEach& for_each, ChannelLayout layout) {
  add_parts(values, kernels, for_each, layout);
}

void Sketch::add(Span<const Half> values, const KernelTable& kernels, const ForEach& for_each, ChannelLayout layout) {
  add_parts(values, kernels, for_each, layout);
}

void Sketch::merge(const Sketch& other) {
  bins_.merge(other.bins_);
  moments_.merge(other.moments_);
  channel_min_.resize(other.channel_min_.size(), kOrderedPositiveInfinity);
  channel_max_.resize(other.channel_max_.size(), kOrderedNegativeInfinity);
  for (std::size_t c = 0; c < channel_min_.size(); ++c) {
    channel_min_[c] = std::min(channel_min_[c], other.channel_min_[c]);
    channel_max_[c] = std::max(channel_max_[c], other.channel_max_[c]);
  }
}

Distribution Sketch::distribution() const {
  Distribution result;
  result.exponent = bins_.exponent();
  result.count = moments_.count;
  result.zeros = moments_.zeros;
  result.minimum = float_from_ordered(moments_.range.min);
  result.maximum = float_from_ordered(moments_.range.max);
  if (moments_.count == moments_.zeros) return result;
  std::int32_t first = -kBins;
  std::int32_t last = kBins - 1;
  while (bins_[first] == 0) ++first;
  while (bins_[last] == 0) --last;
  result.first_bin = first;
  for (std::int32_t bin = first; bin <= last; ++bin) result.counts.push_back(bins_[bin]);
  return result;
}

}  // namespace ort_quant
