#include "isa.h"

#include <stdexcept>

#include "isa_tables.h"

namespace ort_quant {

std::vector<const KernelTable*> available_kernels() {
  std::vector<const KernelTable*> tables{&kScalarKernels};
#ifdef ORT_QUANT_X86_KERNELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) tables.push_back(&kAvx2Kernels);
  if (__builtin_cpu_supports("avx512f")) tables.push_back(&kAvx512Kernels);
#endif
  return tables;
}

const KernelTable& select_kernels(const char* forced) {
  const std::vector<const KernelTable*> tables = available_kernels();
  if (forced == nullptr || *forced == '\0') return *tables.back();
  std::string names;
  for (const KernelTable* table : tables) {
    if (std::string(table->name) == forced) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
  throw std::invalid_argument("ORT_QUANT_ISA is \"" + std::string(forced) + "\", expected one of: " + names +
                              ". Unset it to let the library choose.");
}

}  // namespace ort_quant
