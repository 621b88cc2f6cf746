#include "bytes_avx2.h"
#include "layer_table.h"
#include "layers-inl.h"

namespace ort_quant {

const LayerTable kAvx2Layers = make_layer_table<simd::Avx2Bytes<simd::Dot::kWords>>("avx2");

}  // namespace ort_quant
