#include "layer_store.h"

#include <algorithm>
#include <cmath>

namespace ort_quant {

std::uint8_t quantize_byte(float value, const ByteQuantizer& quantizer) {
  const float code = std::nearbyint(value * quantizer.scale) + static_cast<float>(quantizer.offset);
  if (std::isnan(code)) return 128;
  return static_cast<std::uint8_t>(static_cast<int>(std::clamp(code, -128.0f, 127.0f)) + 128);
}

void store_piece(const LayerOutput& output, float* values, std::size_t position, std::size_t channels,
                 std::size_t channel, std::size_t count) {
  if (output.pieces.take != nullptr) {
    output.pieces.take(output.pieces.context, values, position, channel, count);
    return;
  }
  const ByteOutput& bytes = output.bytes;
  std::uint8_t* y = bytes.y + position * channels + channel;
  for (std::size_t i = 0; i < count; ++i) {
    const float raised = values[i] < bytes.lowest ? bytes.lowest : values[i];  // NaN comes through
    y[i] = quantize_byte(raised > bytes.highest ? bytes.highest : raised, bytes.quantizer);
  }
}

}  // namespace ort_quant
