// The kernel table by element type, so that op templates need not know its field names.
#pragma once

#include "kernel_table.h"

namespace ort_quant {

#define ORT_QUANT_OVERLOADS(In, Out, suffix)                                                                        \
  inline void quantize(const KernelTable& k, const In* x, Out* y, std::size_t n, const QuantizeParams& p) {         \
    k.quantize_##suffix(x, y, n, p);                                                                                \
  }
ORT_QUANT_OVERLOADS(float, float, f32_f32)
ORT_QUANT_OVERLOADS(Half, Half, f16_f16)
ORT_QUANT_OVERLOADS(Half, float, f16_f32)
ORT_QUANT_OVERLOADS(float, std::int8_t, f32_i8)
ORT_QUANT_OVERLOADS(Half, std::int8_t, f16_i8)
#undef ORT_QUANT_OVERLOADS

#define ORT_QUANT_OVERLOADS(In, Out, suffix)                                                                        \
  inline void dequantize(const KernelTable& k, const In* x, Out* y, std::size_t n, const DequantizeParams& p) {     \
    k.dequantize_##suffix(x, y, n, p);                                                                              \
  }                                                                                                                 \
  inline void dequantize_each(const KernelTable& k, const In* x, Out* y, std::size_t n, const float* scales,        \
                              const DequantizeParams& p) {                                                          \
    k.dequantize_each_##suffix(x, y, n, scales, p);                                                                 \
  }                                                                                                                 \
  inline void scale_values(const KernelTable& k, const In* x, Out* y, std::size_t n, float scale) {                 \
    k.scale_##suffix(x, y, n, scale);                                                                               \
  }
ORT_QUANT_OVERLOADS(float, float, f32_f32)
ORT_QUANT_OVERLOADS(Half, Half, f16_f16)
ORT_QUANT_OVERLOADS(float, Half, f32_f16)
#undef ORT_QUANT_OVERLOADS

}  // namespace ort_quant
