#include "isa_tables.h"
#include "kernels-inl.h"
#include "simd_avx2.h"

namespace ort_quant {

const KernelTable kAvx2Kernels = make_table<simd::Avx2>("avx2", &kAvx2Quantized);

}  // namespace ort_quant
