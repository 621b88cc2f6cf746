#include "isa_tables.h"
#include "qfinish-inl.h"
#include "qsimd_neondot.h"

namespace ort_quant {

const QuantizedKernels kNeonDotQuantized = make_quantized_kernels<simd::NeonDot>();

}  // namespace ort_quant
