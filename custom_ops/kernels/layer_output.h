// Where the float32 results of a layer go: pooling, addition and the depthwise convolution share this.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort_quant {

// u = clip(rint(value·scale) + offset, −128, 127) + 128; NaN gives 128.
struct ByteQuantizer {
  float scale;          // finite, > 0
  std::int32_t offset;  // −128 … 127
};

// The frequent end of a layer, done on registers: v = min(max(value, lowest), highest), then quantized.
struct ByteOutput {
  std::uint8_t* y;  // channels last, as many bytes as the layer has results
  ByteQuantizer quantizer;
  float lowest;   // −inf where nothing is clipped
  float highest;  // +inf where nothing is clipped
};

// Any other end: takes the results in pieces. `values` are those of the channels [channel, channel + count) at the
// output position `position` (counted over batch and space), so values[i] belongs at position·channels + channel + i.
// Pieces come in any order, each result exactly once, from several threads; `take` must not throw. It may overwrite
// `values`, which has room for kLargestPiece floats.
inline constexpr std::size_t kLargestPiece = 64;

struct PieceOutput {
  void (*take)(void* context, float* values, std::size_t position, std::size_t channel, std::size_t count);
  void* context;
};

// One of the two; `pieces.take` decides.
struct LayerOutput {
  ByteOutput bytes;
  PieceOutput pieces;

  static LayerOutput of(const ByteOutput& bytes) { return {bytes, {nullptr, nullptr}}; }
  static LayerOutput of(const PieceOutput& pieces) { return {{nullptr, {1.0f, 0}, 0.0f, 0.0f}, pieces}; }
};

}  // namespace ort_quant
