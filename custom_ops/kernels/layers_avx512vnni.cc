#include "bytes_avx512.h"
#include "layer_table.h"
#include "layers-inl.h"

namespace ort_quant {

const LayerTable kAvx512VnniLayers = make_layer_table<simd::Avx512Bytes<true>>("avx512vnni");

}  // namespace ort_quant
