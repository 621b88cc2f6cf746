#include "layer_table.h"

#include <cstring>
#include <initializer_list>

namespace ort_quant {

const LayerTable& layers_of(const KernelTable& kernels) {
#ifdef ORT_QUANT_X86_KERNELS
  for (const LayerTable* table :
       {&kAvx2Layers, &kAvxVnniLayers, &kAvx512Layers, &kAvx512VnniLayers, &kAvx512Vnni256Layers}) {
    if (std::strcmp(table->name, kernels.name) == 0) return *table;
  }
#endif
  (void)kernels;
  return kScalarLayers;
}

}  // namespace ort_quant
