// The borders of a quantized region: float32 to uint8 and back, channels first to channels last and back.
//
// u = clip(rint(x·scale) + offset, −128, 127) + 128, NaN gives 128;   x = float(u − 128 − offset)·scale.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "layer_output.h"
#include "range.h"

namespace ort_quant {

// [batch, channels, positions] is channels first, [batch, positions, channels] is channels last.
struct Planes {
  std::size_t batch;
  std::size_t channels;
  std::size_t positions;
};

// Channels first to channels last.
void quantize_planes(const float* x, std::uint8_t* y, const Planes& planes, const ByteQuantizer& quantizer,
                     const KernelTable& kernels, const ForEach& for_each);
// No permutation.
void quantize_values(const float* x, std::uint8_t* y, std::size_t count, const ByteQuantizer& quantizer,
                     const KernelTable& kernels, const ForEach& for_each);

struct ByteDequantizer {
  float scale;
  std::int32_t offset;  // −128 … 127
};

// Channels last to channels first.
void dequantize_planes(const std::uint8_t* x, float* y, const Planes& planes, const ByteDequantizer& dequantizer,
                       const KernelTable& kernels, const ForEach& for_each);
// No permutation.
void dequantize_values(const std::uint8_t* x, float* y, std::size_t count, const ByteDequantizer& dequantizer,
                       const KernelTable& kernels, const ForEach& for_each);

// float32 channels last to channels first.
void split_planes(const float* x, float* y, const Planes& planes, const KernelTable& kernels, const ForEach& for_each);

}  // namespace ort_quant
