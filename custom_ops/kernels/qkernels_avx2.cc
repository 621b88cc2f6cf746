#include "isa_tables.h"
#include "qfinish-inl.h"
#include "qsimd_avx2.h"

namespace ort_quant {

const QuantizedKernels kAvx2Quantized = make_quantized_kernels<simd::Avx2Widening>();

}  // namespace ort_quant
