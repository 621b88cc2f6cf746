#include "isa_tables.h"
#include "qfinish-inl.h"
#include "qsimd_vnni256.h"

namespace ort_quant {

const QuantizedKernels kAvx512Vnni256Quantized = make_quantized_kernels<simd::Vnni256>();

}  // namespace ort_quant
