// Sum of two quantized tensors of one shape.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.h"
#include "layer_output.h"
#include "layout.h"
#include "range.h"

namespace ort_quant {

// y = float(a − 128 − oa)·sa + float(b − 128 − ob)·sb, each operation rounded to float32.
// [rows, channels]: pieces and positions of the output are counted in it (a flat tensor is one row).
void add_quantized(const std::uint8_t* a, const ByteDequantizer& of_a, const std::uint8_t* b,
                   const ByteDequantizer& of_b, std::size_t rows, std::size_t channels, const LayerOutput& output,
                   const KernelTable& kernels, const ForEach& for_each);

}  // namespace ort_quant
