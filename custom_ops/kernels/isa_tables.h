// The kernel tables that exist; which of them are compiled is decided in CMakeLists.txt. Only isa.cc chooses.
#pragma once

#include "kernel_table.h"

namespace ort_quant {

extern const KernelTable kScalarKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

}  // namespace ort_quant
