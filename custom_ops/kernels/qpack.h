// Weights of a convolution in the order in which the tiles of qkernels.h read them.
//
// A panel is 1 … 4 vectors of 16 output channels of a group. Its weights are [depth step][vector][16 channels][4 input
// channels]; the depth steps run over the taps and within a tap over the input channels, in one of two ways:
//   direct    each tap has its own steps. If its channels are no multiple of four, the last step repeats the four last
//             channels, with zero weights for those that came before: nothing is read past a pixel's end.
//   gathered  fewer than four channels: the taps of an output pixel are copied side by side, `tap_bytes` apart.
// Small groups are merged into one with zero weights between them, so that vectors and steps are filled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned.h"
#include "qconv.h"
#include "qkernels.h"
#include "weight_memory.h"

namespace ort_quant {

struct Panel {
  std::size_t first_in;   // input channel
  std::size_t first_out;  // output channel
  std::size_t channels;   // output channels that exist
  std::size_t width;      // vectors
  std::size_t column;     // where its columns begin in the vectors below
  std::size_t weights;    // where its weights begin
};

struct PackedWeights {
  PackedWeights(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
                Span<const std::int32_t> bias, std::int32_t zero, const QuantizedKernels& kernels);

  std::size_t group_in;      // input channels of a (merged) group
  std::size_t group_out;
  std::size_t taps;
  bool gathered;
  std::size_t tap_bytes;     // between taps of gathered rows
  std::size_t depth;         // of a tap, for TileWork (direct)
  std::size_t tail;
  std::size_t steps_of_tap;  // direct
  std::size_t tile_rows;     // the most rows that all panels' tiles have
  std::vector<Panel> panels;
  WeightVector<std::int8_t> data;
  // By column: the channels of the panels, those that do not exist being zero.
  AlignedVector<float> deq;
  AlignedVector<std::int32_t> start;     // bias − zero·Σ w over all taps
  AlignedVector<std::int32_t> bias;
  std::vector<std::int32_t> tap_sums;  // [taps][columns]: Σ w·zero of a tap

 private:
  void choose_panels(const ConvShape& shape, std::size_t groups, const QuantizedKernels& kernels);
  void pack_channel(const ConvShape& shape, Span<const std::int8_t> weights, const Panel& panel, std::size_t lane,
                    std::int32_t zero);
  std::size_t position(const Panel& panel, std::size_t lane, std::size_t tap, std::size_t channel) const;
  std::size_t steps() const;
};

}  // namespace ort_quant
