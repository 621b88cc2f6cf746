#include "bytes_avx512.h"
#include "layer_table.h"
#include "layers-inl.h"

namespace ort_quant {

const LayerTable kAvx512Layers = make_layer_table<simd::Avx512Bytes<false>>("avx512");

}  // namespace ort_quant
