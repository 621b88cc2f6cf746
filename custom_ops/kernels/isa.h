// Run-time choice of the instruction set: the one place that asks the CPU.
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"

namespace ort_quant {

// Tables that were compiled and that this CPU can run, best last; the scalar table is always there.
std::vector<const KernelTable*> available_kernels();

// The table named by `forced` (scalar, avx2, avxvnni, avx512, avx512vnni_256, avx512vnni, neondot), or the best one when
// it is null or empty.
// Throws std::invalid_argument, naming the legal values, for an unknown or unavailable name.
const KernelTable& select_kernels(const char* forced);

}  // namespace ort_quant
