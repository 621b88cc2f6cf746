// The vectorised kernels as a table of function pointers, one table per instruction set (see isa.h).
//
// Every table gives the same bits for the same arguments: no fused multiply-add, sums in a fixed order of 16 lanes.
// reference.h holds the obvious form of each kernel, the oracle of the tests.
// No kernel allocates, throws or needs aligned pointers. Input and output may be the same array of the same type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "float16.h"

namespace ort_quant {

// y = clip(rint(x·scale) + offset, lowest, highest) − offset, each operation rounded to float32.
// With half_precision x, the product and the sum are rounded to binary16 first, and rint comes after the sum.
struct QuantizeParams {
  float scale;
  float offset;
  float lowest;
  float highest;
  bool half_precision;
};

// t = shifted ? floor(x·inverse_step) : x;  y = clip(t, lowest, highest)·scale·step.
// step = 2^N, inverse_step = 2^-N. With half_precision the result is rounded to binary16.
struct DequantizeParams {
  float scale;
  float step;
  float inverse_step;
  float lowest;
  float highest;
  bool shifted;
  bool half_precision;
};

// min and max over the finite values; +inf and −inf where there are none.
struct ScanResult {
  float min;
  float max;
  std::uint64_t nan_count;
  std::uint64_t inf_count;
};

// The quantization error of IFMR's candidate ranges: see ifmr.h.
struct CandidateGrid {
  const float* upper;    // upper clipping bound of each candidate
  const float* inverse;  // 1 / step size
  const float* step;     // step size
  std::size_t count;
  float lower;           // common lower bound (asymmetric form)
  bool magnitude;        // symmetric form: work on |x|; lower is 0 then
};

// A range as integers in the order of the floats, see float_order.h.
struct OrderedRange {
  std::int32_t min;
  std::int32_t max;
};

// Range and sums of a block. Where the range is not finite, the sums mean nothing.
struct BlockMoments {
  OrderedRange range;
  double total;
  double total_abs;
  double total_squares;
};

// A sketch is fed in blocks that fit into the first-level cache together with their bin numbers.
inline constexpr std::size_t kSketchBlock = 2048;
inline constexpr std::int32_t kBinsPerSide = 8192;
// Neighbouring values count in different copies of the counters, so that runs of one value wait half as long for the
// last increment of their counter. More copies leave no room in the first-level cache and cost more than they save.
// The distance keeps the copies of one counter off equal places in their 4 KiB pages.
inline constexpr std::size_t kCounterCopies = 2;
inline constexpr std::size_t kCounterStride = 2 * kBinsPerSide + 32;

struct QuantizedKernels;  // qkernels.h

struct KernelTable {
  const char* name;
  const QuantizedKernels* quantized;  // int8 convolution

  // NaN stays NaN where the output is a float; in an int8 output it becomes 0 and no offset is subtracted.
  void (*quantize_f32_f32)(const float*, float*, std::size_t, const QuantizeParams&);
  void (*quantize_f16_f16)(const Half*, Half*, std::size_t, const QuantizeParams&);
  void (*quantize_f16_f32)(const Half*, float*, std::size_t, const QuantizeParams&);
  void (*quantize_f32_i8)(const float*, std::int8_t*, std::size_t, const QuantizeParams&);
  void (*quantize_f16_i8)(const Half*, std::int8_t*, std::size_t, const QuantizeParams&);

  // One run of values that share their scale.
  void (*dequantize_f32_f32)(const float*, float*, std::size_t, const DequantizeParams&);
  void (*dequantize_f16_f16)(const Half*, Half*, std::size_t, const DequantizeParams&);
  void (*dequantize_f32_f16)(const float*, Half*, std::size_t, const DequantizeParams&);

  // One scale per value (channel-last rows): y = clip(x, lowest, highest)·scales[i]; `common` gives the bounds.
  void (*dequantize_each_f32_f32)(const float*, float*, std::size_t, const float* scales, const DequantizeParams&);
  void (*dequantize_each_f16_f16)(const Half*, Half*, std::size_t, const float* scales, const DequantizeParams&);
  void (*dequantize_each_f32_f16)(const float*, Half*, std::size_t, const float* scales, const DequantizeParams&);

  // y = x·scale
  void (*scale_f32_f32)(const float*, float*, std::size_t, float scale);
  void (*scale_f16_f16)(const Half*, Half*, std::size_t, float scale);
  void (*scale_f32_f16)(const float*, Half*, std::size_t, float scale);

  void (*widen)(const Half*, float*, std::size_t);
  ScanResult (*scan)(const float*, std::size_t);

  // Adds Σ (x̂ − x)² of each candidate to `loss`. Values must be finite. Squared errors are summed in float32 within a
  // block of 2048 values (in 16 lanes, then the lanes pairwise) and in float64 across blocks.
  void (*add_candidate_losses)(const float*, std::size_t, const CandidateGrid&, double* loss);

  // Of 1 … kSketchBlock values. Sums run in float64 in 8 lanes, then the lanes pairwise.
  BlockMoments (*moments)(const float*, std::size_t);

  // Counts at most kSketchBlock finite values below 2^13/inverse_width in magnitude: adds 1 to the counter
  // middle[floor(x·inverse_width)] in one of the copies, nothing for zeros. inverse_width is a power of two in
  // [2^-115, 2^120]; a negative value always has a negative bin. Returns the number of zeros.
  std::size_t (*count_bins)(const float*, std::size_t, float inverse_width, std::uint32_t* middle);

  // target[i] += the sum of the copies of counters[i], which become 0.
  void (*drain_counters)(std::uint32_t* counters, std::uint32_t* target, std::size_t count);

  // Widens [min, max] to the finite values among so many.
  void (*widen_range)(const float*, std::size_t, OrderedRange&);
  // The same for each value with its own range.
  void (*widen_ranges)(const float*, std::size_t, std::int32_t* min, std::int32_t* max);
};

}  // namespace ort_quant
