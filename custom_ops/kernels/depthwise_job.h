// What the depthwise kernel of an instruction set is given.
//
// A group of output rows reads a list of input rows; each list row is one byte of the four-byte groups that the dot
// product multiplies ("quads" of rows). All list rows of an input column, interleaved per channel, make the column; an
// output is the sum over kernel columns and quads of dot(column, weights), the weights being 0 where a list row is none
// of the output's taps. So a column serves all output rows of the group and all outputs that it is a tap of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_output.h"

namespace ort_quant {

inline constexpr std::size_t kMaxDepthwiseRows = 4;   // output rows of a group
inline constexpr std::size_t kMaxDepthwiseParts = 4;  // groups that share a register, see DepthwiseBlock
inline constexpr std::size_t kMaxQuads = 16;
inline constexpr std::size_t kMaxColumnQuads = 256;   // columns × quads at hand at a time …
inline constexpr std::size_t kHandyColumnQuads = 64;  // … and so many where that will do: in the first-level cache

// A row of the list, relative to the first tap of the group's first output row. Rows that complete a quad repeat
// another.
struct DepthwiseRow {
  std::int64_t depth;
  std::int64_t row;
};

// The channels that one register holds. A remainder that fills at most half (a quarter) of a register is worked on for
// two (four) groups of rows at once: `parts` of `width` channels.
struct DepthwiseBlock {
  std::size_t first;            // channel
  std::size_t count;            // channels, at most `width`
  std::size_t repeated;         // leading channels that the block before gives too
  std::size_t width;            // register_bytes / parts
  std::size_t parts;            // 1, 2 or 4
  const std::uint8_t* weights;  // [4][quad][kernel column][row of the group], each one register of taps
  const std::uint8_t* start;    // [4] registers of int32: bias − z·Σw, in the order of interleaved bytes
  const std::uint8_t* deq;      // [4] registers of float32, likewise
};

// Sizes and steps are those of depth, row, column.
struct DepthwiseJob {
  const DepthwiseBlock* blocks;
  std::size_t block_count;

  const DepthwiseRow* rows;      // [quads·4]
  std::size_t quads;
  std::size_t group_rows;        // 1 … kMaxDepthwiseRows
  std::size_t kernel_columns;
  std::int64_t column_dilation;

  const std::uint8_t* x;         // one image
  std::int64_t in[3];
  std::int64_t x_steps[3];       // bytes
  std::uint8_t zero_point;       // what padding reads as

  std::int64_t out[3];
  std::int64_t y_steps[3];       // positions
  std::int64_t strides[3];
  std::int64_t pads_begin[3];
  std::int64_t depth;            // of the output
  std::int64_t row_begin;        // output rows [row_begin, row_end)
  std::int64_t row_end;
  std::int64_t tile_columns;     // output columns at a time

  std::size_t channels;
  std::int64_t position;         // of the image's first output
  LayerOutput output;
  bool clipped;                  // bytes need more than saturation: a real clip, or results beyond an int32
  bool from_zero;                // bytes, not clipped: code 0 is y = 0, no deq is negative and |sums| are below 2^23
};

}  // namespace ort_quant
