#include "isa_tables.h"
#include "qfinish-inl.h"
#include "qsimd_avx512.h"

namespace ort_quant {

const QuantizedKernels kAvx512Quantized = make_quantized_kernels<simd::Avx512Widening>();

}  // namespace ort_quant
