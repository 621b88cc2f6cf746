// The kernels of kernel_table.h, written once over a 16-lane vector type and compiled once per instruction set.
//
// Everything is in an anonymous namespace and nothing inline from the standard library is called: an inline
// function compiled here with AVX flags could otherwise be the copy that the linker keeps for the whole library.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "sketch-inl.h"

namespace ort_quant {
namespace {

// Calls f on each full vector of `count` values and once on a zero-padded copy of the rest.
template <class Vec, class In, class Out, class F>
void transform(const In* x, Out* y, std::size_t count, F f) {
  constexpr std::size_t kLanes = Vec::kLanes;
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) f(Vec::load(x + i), i).store(y + i);
  if (i == count) return;
  In head[kLanes] = {};
  Out tail[kLanes];
  for (std::size_t lane = 0; i + lane < count; ++lane) head[lane] = x[i + lane];
  f(Vec::load(head), i).store(tail);
  for (std::size_t lane = 0; i + lane < count; ++lane) y[i + lane] = tail[lane];
}

template <class Vec, class In, class Out>
void quantize(const In* x, Out* y, std::size_t count, const QuantizeParams& params) {
  const Vec scale = Vec::broadcast(params.scale);
  const Vec offset = Vec::broadcast(params.offset);
  const Vec lowest = Vec::broadcast(params.lowest);
  const Vec highest = Vec::broadcast(params.highest);
  const auto finish = [=](Vec code) {
    code = min(highest, max(lowest, code));
    if constexpr (sizeof(Out) == sizeof(std::int8_t)) {
      return zero_nan(code);
    } else {
      return code - offset;
    }
  };
  if (params.half_precision) {
    transform<Vec>(x, y, count, [=](Vec v, std::size_t) {
      const Vec product = to_half_precision(to_half_precision(v) * scale);
      return finish(rint(to_half_precision(product + offset)));
    });
  } else {
    transform<Vec>(x, y, count, [=](Vec v, std::size_t) { return finish(rint(v * scale) + offset); });
  }
}

template <class Vec, class In, class Out>
void dequantize(const In* x, Out* y, std::size_t count, const DequantizeParams& params) {
  const Vec scale = Vec::broadcast(params.scale);
  const Vec step = Vec::broadcast(params.step);
  const Vec inverse_step = Vec::broadcast(params.inverse_step);
  const Vec lowest = Vec::broadcast(params.lowest);
  const Vec highest = Vec::broadcast(params.highest);
  const bool half_precision = params.half_precision;
  const auto finish = [=](Vec v) {
    const Vec result = min(highest, max(lowest, v)) * scale * step;
    return half_precision ? to_half_precision(result) : result;
  };
  if (params.shifted) {
    transform<Vec>(x, y, count, [=](Vec v, std::size_t) { return finish(floor(v * inverse_step)); });
  } else {
    transform<Vec>(x, y, count, [=](Vec v, std::size_t) { return finish(v); });
  }
}

template <class Vec, class In, class Out>
void dequantize_each(const In* x, Out* y, std::size_t count, const float* scales, const DequantizeParams& common) {
  const Vec lowest = Vec::broadcast(common.lowest);
  const Vec highest = Vec::broadcast(common.highest);
  const bool half_precision = common.half_precision;
  transform<Vec>(x, y, count, [=](Vec v, std::size_t i) {
    float padded[Vec::kLanes] = {};
    const float* scale = scales + i;
    if (i + Vec::kLanes > count) {
      for (std::size_t lane = 0; i + lane < count; ++lane) padded[lane] = scale[lane];
      scale = padded;
    }
    const Vec result = min(highest, max(lowest, v)) * Vec::load(scale);
    return half_precision ? to_half_precision(result) : result;
  });
}

template <class Vec, class In, class Out>
void scale_values(const In* x, Out* y, std::size_t count, float factor) {
  const Vec scale = Vec::broadcast(factor);
  transform<Vec>(x, y, count, [=](Vec v, std::size_t) { return v * scale; });
}

template <class Vec>
void widen(const Half* x, float* y, std::size_t count) {
  transform<Vec>(x, y, count, [](Vec v, std::size_t) { return v; });
}

void scan_one(float value, ScanResult& result) {
  const float magnitude = value < 0 ? -value : value;
  if (value != value) {
    ++result.nan_count;
  } else if (magnitude > __FLT_MAX__) {
    ++result.inf_count;
  } else {
    if (value < result.min) result.min = value;
    if (value > result.max) result.max = value;
  }
}

template <class Vec>
ScanResult scan(const float* x, std::size_t count) {
  constexpr std::size_t kLanes = Vec::kLanes;
  ScanResult result{__builtin_inff(), -__builtin_inff(), 0, 0};
  Vec smallest = Vec::broadcast(result.min);
  Vec largest = Vec::broadcast(result.max);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = Vec::load(x + i);
    if (all_finite(v)) {
      smallest = min(smallest, v);
      largest = max(largest, v);
    } else {
      for (std::size_t lane = 0; lane < kLanes; ++lane) scan_one(x[i + lane], result);
    }
  }
  for (; i < count; ++i) scan_one(x[i], result);
  float lanes[kLanes];
  smallest.store(lanes);
  for (float lane : lanes) result.min = lane < result.min ? lane : result.min;
  largest.store(lanes);
  for (float lane : lanes) result.max = lane > result.max ? lane : result.max;
  return result;
}

template <class Vec>
float sum_lanes(Vec v) {
  float lanes[Vec::kLanes];
  v.store(lanes);
  for (std::size_t width = Vec::kLanes / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

// Squared errors of `Tile` neighbouring candidates over one block whose length is a multiple of the lanes.
//
// The quotient is taken as a product with 1/S: where that moves a value across a rounding tie, both neighbours
// are equally far, so the squared error is the same up to float32 rounding. Adding and subtracting 1.5·2^23 rounds
// to nearest even, valid because a clipped quotient stays below 2^22.
template <class Vec, std::size_t Tile>
void add_tile_losses(const float* x, std::size_t count, const CandidateGrid& grid, std::size_t first, double* loss) {
  const Vec magic = Vec::broadcast(0x1.8p23f);
  const Vec lower = Vec::broadcast(grid.lower);
  Vec sums[Tile], upper[Tile], inverse[Tile], step[Tile];
#pragma GCC unroll 8
  for (std::size_t k = 0; k < Tile; ++k) {
    sums[k] = Vec::broadcast(0.0f);
    upper[k] = Vec::broadcast(grid.upper[first + k]);
    inverse[k] = Vec::broadcast(grid.inverse[first + k]);
    step[k] = Vec::broadcast(grid.step[first + k]);
  }
  for (std::size_t i = 0; i < count; i += Vec::kLanes) {
    const Vec raw = Vec::load(x + i);
    const Vec value = grid.magnitude ? abs(raw) : raw;
    const Vec raised = max(lower, value);
#pragma GCC unroll 8
    for (std::size_t k = 0; k < Tile; ++k) {
      const Vec code = (min(upper[k], raised) * inverse[k] + magic) - magic;
      const Vec error = code * step[k] - value;
      sums[k] = sums[k] + error * error;
    }
  }
#pragma GCC unroll 8
  for (std::size_t k = 0; k < Tile; ++k) loss[first + k] += static_cast<double>(sum_lanes(sums[k]));
}

template <class Vec>
void add_block_losses(const float* x, std::size_t count, const CandidateGrid& grid, double* loss) {
  constexpr std::size_t kTile = 4;
  std::size_t first = 0;
  for (; first + kTile <= grid.count; first += kTile) add_tile_losses<Vec, kTile>(x, count, grid, first, loss);
  for (; first < grid.count; ++first) add_tile_losses<Vec, 1>(x, count, grid, first, loss);
}

template <class Vec>
void add_candidate_losses(const float* x, std::size_t count, const CandidateGrid& grid, double* loss) {
  constexpr std::size_t kBlock = 2048;  // 8 KiB: stays in L1 while all candidates pass over it
  constexpr std::size_t kLanes = Vec::kLanes;
  std::size_t start = 0;
  for (; start + kBlock <= count; start += kBlock) add_block_losses<Vec>(x + start, kBlock, grid, loss);
  const std::size_t rest = count - start;
  if (rest == 0) return;
  // Zeros complete the last vector: zero lies inside every candidate range and is represented exactly.
  float block[kBlock] = {};
  for (std::size_t i = 0; i < rest; ++i) block[i] = x[start + i];
  add_block_losses<Vec>(block, (rest + kLanes - 1) / kLanes * kLanes, grid, loss);
}

template <class Vec>
constexpr KernelTable make_table(const char* name, const QuantizedKernels* quantized) {
  return {
      name,
      quantized,
      quantize<Vec, float, float>,
      quantize<Vec, Half, Half>,
      quantize<Vec, Half, float>,
      quantize<Vec, float, std::int8_t>,
      quantize<Vec, Half, std::int8_t>,
      dequantize<Vec, float, float>,
      dequantize<Vec, Half, Half>,
      dequantize<Vec, float, Half>,
      dequantize_each<Vec, float, float>,
      dequantize_each<Vec, Half, Half>,
      dequantize_each<Vec, float, Half>,
      scale_values<Vec, float, float>,
      scale_values<Vec, Half, Half>,
      scale_values<Vec, float, Half>,
      widen<Vec>,
      scan<Vec>,
      add_candidate_losses<Vec>,
      moments<Vec>,
      count_bins<Vec>,
      drain_counters,
      widen_range<Vec>,
      widen_ranges<Vec>,
  };
}

}  // namespace
}  // namespace ort_quant
