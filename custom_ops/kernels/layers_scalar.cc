#include "bytes_baseline.h"
#include "layer_table.h"
#include "layers-inl.h"

namespace ort_quant {

const LayerTable kScalarLayers = make_layer_table<simd::BaselineBytes>("scalar");

}  // namespace ort_quant
