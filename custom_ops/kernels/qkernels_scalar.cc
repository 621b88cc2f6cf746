#include "isa_tables.h"
#include "qfinish-inl.h"
#include "qsimd_baseline.h"

namespace ort_quant {

const QuantizedKernels kScalarQuantized = make_quantized_kernels<simd::BaselineBytes>();

}  // namespace ort_quant
