// Pools, written once over the registers of bytes_*.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_jobs.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

// The taps [begin, end) of one dimension that lie in [low, high), and where tap 0 lies.
struct TapRange {
  std::int64_t first;
  std::int64_t begin;
  std::int64_t end;

  std::int64_t count() const { return end - begin; }
};

inline TapRange taps_in(const PoolJob& job, std::size_t d, std::int64_t output, std::int64_t low, std::int64_t high) {
  const std::int64_t first = output * job.strides[d] - job.pads_begin[d];
  const std::int64_t dilation = job.dilations[d];
  const auto taps_below = [&](std::int64_t bound) {
    const std::int64_t distance = bound <= first ? 0 : bound - first;
    const std::int64_t taps = dilation == 1 ? distance : (distance + dilation - 1) / dilation;  // divisions are slow
    return taps < job.kernel[d] ? taps : job.kernel[d];
  };
  return {first, taps_below(low), taps_below(high)};
}

// The taps of one output inside the input.
struct PoolWindow {
  TapRange range[3];
  const std::uint8_t* image;

  // f(values of channel 0) for each tap.
  template <class F>
  void each(const PoolJob& job, F f) const {
    const auto place = [&](std::size_t d, std::int64_t tap) { return range[d].first + tap * job.dilations[d]; };
    for (std::int64_t z = range[0].begin; z < range[0].end; ++z) {
      for (std::int64_t y = range[1].begin; y < range[1].end; ++y) {
        const std::int64_t row = (place(0, z) * job.in[1] + place(1, y)) * job.in[2];
        for (std::int64_t x = range[2].begin; x < range[2].end; ++x) {
          f(image + static_cast<std::size_t>(row + place(2, x)) * job.channels);
        }
      }
    }
  }
  std::int64_t count() const { return range[0].count() * range[1].count() * range[2].count(); }
};

// f(window, position of the output, [depth, row, column] of the output) for the job's outputs.
template <class F>
void for_each_window(const PoolJob& job, F f) {
  const std::size_t image_bytes = static_cast<std::size_t>(job.in[0] * job.in[1] * job.in[2]) * job.channels;
  for (std::size_t row = job.row_begin; row < job.row_end; ++row) {
    const auto at = static_cast<std::int64_t>(row);
    std::int64_t output[3] = {at / job.out[1] % job.out[0], at % job.out[1], 0};
    PoolWindow window;
    window.image = job.x + static_cast<std::size_t>(at / job.out[1] / job.out[0]) * image_bytes;
    window.range[0] = taps_in(job, 0, output[0], 0, job.in[0]);
    window.range[1] = taps_in(job, 1, output[1], 0, job.in[1]);
    for (; output[2] < job.out[2]; ++output[2]) {
      window.range[2] = taps_in(job, 2, output[2], 0, job.in[2]);
      f(window, static_cast<std::size_t>(at * job.out[2] + output[2]), output);
    }
  }
}

template <class V>
void max_pool(const PoolJob& job) {
  for_each_window(job, [&](const PoolWindow& window, std::size_t position, const std::int64_t*) {
    std::uint8_t* y = job.y + position * job.channels;
    for_channel_blocks<V>(job.channels, [&](std::size_t first, std::size_t count, std::size_t) {
      auto largest = V::splat_byte(0);
      window.each(job, [&](const std::uint8_t* x) {
        largest = V::max_bytes(largest, load_block<V>(x + first, count));
      });
      if (count == V::kBytes) return V::store_bytes(y + first, largest);
      V::store_some(y + first, largest, count);
    });
  });
}

// Weights that make the dot product a sum.
template <class V>
typename V::Weights ones() {
  alignas(64) std::uint8_t weights[V::kWeightBytes];
  for (std::size_t i = 0; i < V::kWeightBytes; ++i) weights[i] = V::kWeightBytes == V::kBytes || i % 2 == 0 ? 1 : 0;
  return V::load_weights(weights);
}

// Sums of bytes, four positions at a time, in the order of interleaved bytes.
template <class V>
class PoolSums {
 public:
  explicit PoolSums(std::int32_t start) : ones_(ones<V>()) {
    for (auto& sum : sums_) sum = V::splat_int(start);
    for (auto& value : waiting_) value = V::splat_byte(0);
  }

  void add(typename V::Bytes value) {
    waiting_[count_++] = value;
    if (count_ == 4) flush();
  }

  const typename V::Ints* finish() {
    while (count_ != 0) add(V::splat_byte(0));
    return sums_;
  }

 private:
  void flush() {
    const auto quad = Quad<V>::interleave(waiting_[0], waiting_[1], waiting_[2], waiting_[3]);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) sums_[j] = V::dot(sums_[j], quad.at[j], ones_);
    count_ = 0;
  }

  typename V::Weights ones_;
  typename V::Ints sums_[4];
  typename V::Bytes waiting_[4];
  std::size_t count_ = 0;
};

template <class V>
void average_pool(const PoolJob& job, const AverageJob& average, const LayerOutput& output) {
  const auto end = ByteEnd<V>::of(output.bytes);
  const auto deq = V::splat(average.deq);
  for_each_window(job, [&](const PoolWindow& window, std::size_t position, const std::int64_t* at) {
    std::int64_t number = 1;
    for (std::size_t d = 0; d < 3; ++d) {
      number *= taps_in(job, d, at[d], average.counted_from[d], average.counted_to[d]).count();
    }
    const auto divisor = V::splat(static_cast<float>(number));
    const auto start = static_cast<std::int32_t>(-average.zero_point * window.count());
    for_channel_blocks<V>(job.channels, [&](std::size_t first, std::size_t count, std::size_t repeated) {
      PoolSums<V> sums(start);
      window.each(job, [&](const std::uint8_t* x) { sums.add(load_block<V>(x + first, count)); });
      const typename V::Ints* sum = sums.finish();
      ResultBlock<V> result;
#pragma GCC unroll 4
      for (std::size_t j = 0; j < 4; ++j) result.at[j] = V::mul(V::div(V::to_floats(sum[j]), divisor), deq);
      result.store(output, end, position, job.channels, first, count, repeated);
    });
  });
}

}  // namespace
}  // namespace ort_quant
