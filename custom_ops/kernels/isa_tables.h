// The kernel tables that exist; which of them are compiled is decided in CMakeLists.txt. Only isa.cc chooses.
#pragma once

#include "kernel_table.h"
#include "qkernels.h"

namespace ort_quant {

extern const KernelTable kScalarKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

extern const QuantizedKernels kScalarQuantized;
extern const QuantizedKernels kAvx2Quantized;
extern const QuantizedKernels kAvxVnniQuantized;
extern const QuantizedKernels kAvx512Quantized;
extern const QuantizedKernels kAvx512VnniQuantized;
extern const QuantizedKernels kAvx512Vnni256Quantized;  // EVEX form of AVX-VNNI: half the vector width of avx512vnni
extern const QuantizedKernels kNeonDotQuantized;

}  // namespace ort_quant
