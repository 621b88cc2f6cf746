#include "bytes_avx2.h"
#include "layer_table.h"
#include "layers-inl.h"

namespace ort_quant {

const LayerTable kAvx512Vnni256Layers = make_layer_table<simd::Avx2Bytes<simd::Dot::kAvx512Vnni>>("avx512vnni_256");

}  // namespace ort_quant
