// Where the tiles of a convolution find their input: for each output pixel and tap a pointer to a pixel of the input
// or of padding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "qconv.h"

namespace ort_quant {

// One dimension of a phase. Output position j of the phase and its tap t meet input position
// j·stride + first_offset + t·offset_step.
struct Axis {
  std::size_t in;
  std::size_t out;
  std::size_t kernel;
  std::size_t stride;
  std::size_t taps;
  std::ptrdiff_t first_offset;
  std::ptrdiff_t offset_step;
  std::size_t first_tap;  // tap t of the phase is tap first_tap + t·tap_step of the weights
  std::size_t tap_step;
  std::size_t positions;
  std::size_t first_out;  // position j of the phase is position first_out + j·out_step of the output
  std::size_t out_step;
};

// The output pixels that see the same taps: all of them, or, transposed, those of the same remainder by the strides.
struct Phase {
  Axis axes[3];

  std::size_t taps() const { return axes[0].taps * axes[1].taps * axes[2].taps; }
  std::size_t positions() const { return axes[0].positions * axes[1].positions * axes[2].positions; }
  std::size_t tap(std::size_t index) const;  // its number in the weights
};

std::size_t phase_count(const ConvShape& shape);
Phase phase_of(const ConvShape& shape, const ConvGeometry& geometry, std::size_t index);

// Some rows, cut into tiles. Rows count through the positions of a phase, image after image.
struct RowBlock {
  std::size_t first_row;
  std::size_t rows;
  std::size_t tile_rows;  // of all tiles but possibly the last
};

// Some of the taps of a phase.
struct TapRange {
  std::size_t first;
  std::size_t count;
};

class Indirection {
 public:
  // `padding`: one pixel of the input's zero, for point_lines() a line of taps.
  Indirection(const Phase& phase, const std::uint8_t* x, std::size_t channels, const std::uint8_t* padding);

  // Where every output pixel reads the input pixel of its own number: that of a row, and the bytes to the next row's.
  bool pointwise() const { return pointwise_; }
  const std::uint8_t* pixel(std::size_t row) const { return x_ + row * channels_; }
  std::size_t pixel_bytes() const { return channels_; }

  // Tile after tile: pointers[tap][row].
  void point(const RowBlock& block, const TapRange& taps, const std::uint8_t** pointers) const;

  // As point(), of all taps, where the taps of a line are one: pointers[line][row] to `kernel width · channels` bytes.
  // Lines that are partly padding are copied to `bytes`, which has room for all of the block's.
  void point_lines(const RowBlock& block, const std::uint8_t** pointers, std::uint8_t* bytes) const;

  // The same bytes, copied: those of a row's taps are `tap_bytes` apart, rows `pitch`.
  void gather(const RowBlock& block, const TapRange& taps, std::size_t tap_bytes, std::size_t pitch,
              std::uint8_t* bytes) const;

  // The rows' numbers among the pixels of the output.
  void output_pixels(const RowBlock& block, std::size_t* pixels) const;

 private:
  static constexpr std::size_t kMostTabledTaps = 128;

  struct Position;
  struct Run;

  template <class F>
  void for_each_run(const RowBlock& block, F f) const;
  template <class F>
  void for_each_line(const Run& run, F f) const;
  template <class F>
  void for_each_tap(const Run& run, F f) const;
  void fill_tap_bytes();
  void point_inside(const Run& run, const TapRange& taps, std::size_t step, const std::uint8_t** pointers) const;

  const Phase& phase_;
  const std::uint8_t* x_;
  const std::size_t channels_;
  const std::uint8_t* padding_;
  const std::size_t row_bytes_;  // between the pixels that neighbouring rows read
  struct {
    std::size_t begin, end;
  } whole_[3];                   // positions none of whose taps lies in the padding
  const bool pointwise_;         // row r reads pixel r
  const bool adjacent_;          // the taps of a line are neighbours
  const bool tabled_;            // whether the following has the taps
  std::ptrdiff_t tap_bytes_[kMostTabledTaps];  // from tap 0's pixel to each tap's
};

}  // namespace ort_quant
