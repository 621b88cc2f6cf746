// A LayerTable from the registers of an instruction set.
#pragma once

#include "depthwise-inl.h"
#include "layer_table.h"
#include "layout-inl.h"
#include "pool-inl.h"
#include "qadd-inl.h"

namespace ort_quant {
namespace {

template <class V>
constexpr LayerTable make_layer_table(const char* name) {
  return {
      name,
      V::kBytes,
      V::kWeightBytes != V::kBytes,
      run_depthwise<V>,
      max_pool<V>,
      average_pool<V>,
      add_quantized<V>,
      quantize_values<V>,
      dequantize_values<V>,
      quantize_planes<V>,
      dequantize_planes<V>,
      split_planes,
  };
}

}  // namespace
}  // namespace ort_quant
