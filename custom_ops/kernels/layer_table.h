// The kernels of depthwise convolution, pooling, addition and layout of one instruction set.
//
// Plain memory only, as in kernel_table.h: no kernel allocates, throws or needs aligned pointers. Every table gives the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "depthwise_job.h"
#include "kernel_table.h"
#include "layer_jobs.h"

namespace ort_quant {

struct LayerTable {
  const char* name;
  std::size_t register_bytes;  // 16, 32 or 64: channels that are worked on together
  // The weights of four taps of one channel lie together, as four int8, or, where the product of bytes is missing, as
  // int16: taps 0 and 2 of every channel in one register, taps 1 and 3 in the next.
  bool word_weights;

  void (*depthwise)(const DepthwiseJob&);
  void (*max_pool)(const PoolJob&);
  void (*average_pool)(const PoolJob&, const AverageJob&, const LayerOutput&);
  void (*add)(const AddJob&, const LayerOutput&);
  void (*quantize)(const float* x, std::uint8_t* y, std::size_t count, const ByteQuantizer&);
  void (*dequantize)(const std::uint8_t* x, float* y, std::size_t count, float scale, std::int32_t zero_point);
  void (*quantize_planes)(const float* x, std::uint8_t* y, const PlanesJob&, const ByteQuantizer&);
  void (*dequantize_planes)(const std::uint8_t* x, float* y, const PlanesJob&, float scale, std::int32_t zero_point);
  void (*split_planes)(const float* x, float* y, const PlanesJob&);
};

extern const LayerTable kScalarLayers;
extern const LayerTable kAvx2Layers;
extern const LayerTable kAvxVnniLayers;
extern const LayerTable kAvx512Layers;
extern const LayerTable kAvx512VnniLayers;
extern const LayerTable kAvx512Vnni256Layers;

// The layer kernels that belong to a table.
const LayerTable& layers_of(const KernelTable& kernels);

}  // namespace ort_quant
