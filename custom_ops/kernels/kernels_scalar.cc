#include "isa_tables.h"
#include "kernels-inl.h"
#include "simd_baseline.h"

namespace ort_quant {

const KernelTable kScalarKernels = make_table<simd::Baseline>("scalar", &kScalarQuantized);

}  // namespace ort_quant
