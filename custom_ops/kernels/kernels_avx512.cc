#include "isa_tables.h"
#include "kernels-inl.h"
#include "simd_avx512.h"

namespace ort_quant {

const KernelTable kAvx512Kernels = make_table<simd::Avx512>("avx512", &kAvx512Quantized);

}  // namespace ort_quant
