// The ends of layer_output.h, value by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_output.h"

namespace ort_quant {

std::uint8_t quantize_byte(float value, const ByteQuantizer& quantizer);

// Gives a piece, see PieceOutput, to either kind of output. `values` has room for kLargestPiece floats.
void store_piece(const LayerOutput& output, float* values, std::size_t position, std::size_t channels,
                 std::size_t channel, std::size_t count);

}  // namespace ort_quant
