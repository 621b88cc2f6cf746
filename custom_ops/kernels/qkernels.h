// The int8 kernels of one instruction set: a family of convolution tiles and the general epilogue.
//
// Plain memory only: a translation unit with an instruction set's flags may not instantiate anything of the standard
// library. No kernel allocates, throws or needs aligned pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "epilogue.h"

namespace ort_quant {

inline constexpr std::size_t kLanes = 16;           // output channels of a weight vector, on every instruction set
inline constexpr std::size_t kDepthStep = 4;        // input channels of a weight vector
inline constexpr std::size_t kVectorBytes = kLanes * kDepthStep;
inline constexpr std::size_t kMaxTileWidth = 4;     // in vectors
inline constexpr std::size_t kMaxTileRows = 12;

enum class TileEnd : std::uint8_t {
  kSums,     // int32 sums to `sums`, to be continued
  kFloats,   // float(sum)·deq to `floats`, for finish_tile
  kCodes,    // on registers: see CodesEnd
  kResults,  // on registers: see ResultsEnd
};

// The epilogue that stays in registers: rint(clip(float(sum)·deq·scale, low, high)) + shift, saturated to a byte. The
// bounds of the layer and of the code are merged: multiplying by a positive scale and rounding keep their order.
struct CodesEnd {
  float scale;
  float low;
  float high;
  bool saturates;        // without `low` and `high` too: products stay in the int32 range, bounds are those of a byte
  std::int32_t shift;    // offset + 128
  std::uint8_t* y;
  std::size_t channels;  // of a pixel of y
};

// The other epilogue that stays in registers, that of residual blocks: clip, add a residual, clip; then the float32
// results and their codes. Bounds that do nothing are infinite; tensors that do not exist are null. All tensors are
// channels last.
struct ResultsEnd {
  float low[2];
  float high[2];
  bool bounded_below_only;  // low[1] is the only bound that does something
  Quantizer quantizer;
  std::size_t residual_index;
  const float* residual;
  float* y_float;
  std::uint8_t* y;
  std::size_t channels;  // of a pixel
};

// Tiles one below the other: each Σ over taps and depth of rows[tap][row][…]·weights, for `place.rows` pixels and
// Width·16 channels.
struct TileWork {
  std::size_t tiles;                // more than one only with an end on registers
  const std::uint8_t* const* rows;  // [tiles][taps][rows]; null: the row after `first_row` lies `row_bytes` behind it …
  const std::uint8_t* first_row;
  std::size_t row_bytes;
  std::size_t channel_offset;       // added to every row pointer
  std::size_t taps;
  const std::size_t* tap_weights;   // where each tap's weights begin, in depth steps
  std::size_t depth;                // bytes of a tap, rounded down to depth steps
  std::size_t tail;                 // where the tap's last four bytes are if `depth` leaves some over, else 0
  const std::int8_t* weights;       // [depth step][Width][16][4]
  // What is wanted after these tiles: each of them fetches a share into the second-level cache. Of null nothing.
  const std::int8_t* next;
  std::size_t next_share;           // bytes of a tile
  std::size_t next_step;            // bytes of a depth step
  const std::int32_t* start;        // [rows][Width·16] with start_stride between rows, 0: one row for all
  std::size_t start_stride;
  const float* deq;                 // [Width·16]
  TileEnd end;
  std::int32_t* sums;               // [rows][Width·16]
  float* floats;                    // [rows][Width·16]
  CodesEnd codes;
  ResultsEnd results;
  TilePlace place;                  // of the first tile; the pixels of the others follow
};

using TileKernel = void (*)(const TileWork&);

struct QuantizedKernels {
  // tiles[width − 1][rows − 1]; null past the most rows that leave the sums in registers.
  TileKernel tiles[kMaxTileWidth][kMaxTileRows];
  // Activations enter the products as u − 128 (the instruction wants signed bytes).
  bool signed_activations;

  // Runs the program on a tile [place.rows][stride] of value 0 and stores what it gives; `stride` is a multiple of 16.
  void (*finish_tile)(const FinishProgram&, const OutputTensors&, const TilePlace&, float* tile, std::size_t stride);
};

}  // namespace ort_quant
