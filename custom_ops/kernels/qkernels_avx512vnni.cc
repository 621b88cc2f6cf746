#include "isa_tables.h"
#include "qfinish-inl.h"
#include "qsimd_avx512vnni.h"

namespace ort_quant {

const QuantizedKernels kAvx512VnniQuantized = make_quantized_kernels<simd::Avx512Vnni>();

}  // namespace ort_quant
