#include "bytes_avx2.h"
#include "layer_table.h"
#include "layers-inl.h"

namespace ort_quant {

const LayerTable kAvxVnniLayers = make_layer_table<simd::Avx2Bytes<simd::Dot::kAvxVnni>>("avxvnni");

}  // namespace ort_quant
