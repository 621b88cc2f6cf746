#include "isa.h"

#ifdef ORT_QUANT_X86_KERNELS
#include <cpuid.h>
#endif
#ifdef ORT_QUANT_NEON_KERNELS
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <stdexcept>

#include "isa_tables.h"

namespace ort_quant {
namespace {

// An instruction set that changes nothing but the int8 products.
[[maybe_unused]] KernelTable extended(const KernelTable& base, const char* name, const QuantizedKernels& quantized) {
  KernelTable table = base;
  table.name = name;
  table.quantized = &quantized;
  return table;
}

#ifdef ORT_QUANT_X86_KERNELS
// Leaf 7, subleaf 1, EAX bit 4. GCC 12's __builtin_cpu_supports does not know it; YMM state is AVX2's.
bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 16u) != 0;
}

void add_x86_kernels(std::vector<const KernelTable*>& tables) {
  static const KernelTable avx_vnni = extended(kAvx2Kernels, "avxvnni", kAvxVnniQuantized);
  static const KernelTable avx512_vnni256 = extended(kAvx512Kernels, "avx512vnni_256", kAvx512Vnni256Quantized);
  static const KernelTable avx512_vnni = extended(kAvx512Kernels, "avx512vnni", kAvx512VnniQuantized);
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) return;
  tables.push_back(&kAvx2Kernels);
  if (has_avx_vnni()) tables.push_back(&avx_vnni);
  if (!__builtin_cpu_supports("avx512f")) return;
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return;
  tables.push_back(&kAvx512Kernels);
  if (!__builtin_cpu_supports("avx512vnni")) return;
  tables.push_back(&avx512_vnni256);
  tables.push_back(&avx512_vnni);
}
#endif

}  // namespace

std::vector<const KernelTable*> available_kernels() {
  std::vector<const KernelTable*> tables{&kScalarKernels};
#ifdef ORT_QUANT_X86_KERNELS
  add_x86_kernels(tables);
#endif
#ifdef ORT_QUANT_NEON_KERNELS
  static const KernelTable neon_dot = extended(kScalarKernels, "neondot", kNeonDotQuantized);
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) tables.push_back(&neon_dot);
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
