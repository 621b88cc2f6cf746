#include "qindirection.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <numeric>

namespace ort_quant {
namespace {

Axis plain_axis(const ConvShape& shape, const ConvGeometry& geometry, std::size_t d) {
  return {geometry.in[d],
          geometry.out[d],
          shape.kernel[d],
          shape.strides[d],
          shape.kernel[d],
          -geometry.pads_begin[d],
          static_cast<std::ptrdiff_t>(shape.dilations[d]),
          0,
          1,
          geometry.out[d],
          0,
          1};
}

// Output o = j·stride + remainder meets input i through tap k where i·stride = o + pad − k·dilation: the taps for which
// remainder + pad − k·dilation is a multiple of the stride, and they follow each other at equal distances.
Axis transposed_axis(const ConvShape& shape, const ConvGeometry& geometry, std::size_t d, std::size_t remainder) {
  const auto stride = static_cast<std::ptrdiff_t>(shape.strides[d]);
  const auto dilation = static_cast<std::ptrdiff_t>(shape.dilations[d]);
  const std::ptrdiff_t common = std::gcd(stride, dilation);
  const std::ptrdiff_t origin = static_cast<std::ptrdiff_t>(remainder) + geometry.pads_begin[d];
  const std::size_t distance = static_cast<std::size_t>(stride / common);
  std::size_t first = 0;
  while (first < distance && (origin - static_cast<std::ptrdiff_t>(first) * dilation) % stride != 0) ++first;
  const bool any = first < distance && first < shape.kernel[d];
  const std::size_t out = geometry.out[d];
  return {geometry.in[d],
          out,
          shape.kernel[d],
          1,
          any ? (shape.kernel[d] - first - 1) / distance + 1 : 0,
          any ? (origin - static_cast<std::ptrdiff_t>(first) * dilation) / stride : 0,
          -dilation / common,
          first,
          distance,
          out > remainder ? (out - remainder - 1) / shape.strides[d] + 1 : 0,
          remainder,
          shape.strides[d]};
}

bool inside(std::ptrdiff_t position, std::size_t size) { return static_cast<std::size_t>(position) < size; }

// `rows` times `count` bytes.
void copy_rows(const std::uint8_t* source, std::size_t source_pitch, std::size_t rows, std::size_t count,
               std::uint8_t* target, std::size_t pitch) {
  for (std::size_t row = 0; row < rows; ++row) std::memcpy(target + row * pitch, source + row * source_pitch, count);
}

}  // namespace

std::size_t Phase::tap(std::size_t index) const {
  const std::size_t w = index % axes[2].taps;
  const std::size_t h = index / axes[2].taps % axes[1].taps;
  const std::size_t d = index / axes[2].taps / axes[1].taps;
  const auto tap = [&](std::size_t axis, std::size_t t) { return axes[axis].first_tap + t * axes[axis].tap_step; };
  return (tap(0, d) * axes[1].kernel + tap(1, h)) * axes[2].kernel + tap(2, w);
}

std::size_t phase_count(const ConvShape& shape) {
  return shape.transposed ? shape.strides[0] * shape.strides[1] * shape.strides[2] : 1;
}

Phase phase_of(const ConvShape& shape, const ConvGeometry& geometry, std::size_t index) {
  Phase phase{};
  for (std::size_t d = 3; d-- > 0;) {
    phase.axes[d] = shape.transposed ? transposed_axis(shape, geometry, d, index % shape.strides[d])
                                     : plain_axis(shape, geometry, d);
    index /= shape.strides[d];
  }
  return phase;
}

struct Indirection::Position {
  Position(const Phase& phase, std::size_t row) {
    for (std::size_t d = 3; d-- > 0;) {
      at[d] = row % phase.axes[d].positions;
      row /= phase.axes[d].positions;
    }
    image = row;
  }

  // `count` rows on, not past the end of the line.
  void advance(const Phase& phase, std::size_t count) {
    at[2] += count;
    for (std::size_t d = 2; at[d] == phase.axes[d].positions; --d) {
      at[d] = 0;
      if (d == 0) {
        ++image;
        return;
      }
      ++at[d - 1];
    }
  }

  std::size_t at[3];
  std::size_t image;
};

// Neighbouring rows of a line and a tile: one row, or several that see no padding.
struct Indirection::Run {
  std::size_t row;  // of the block
  std::size_t count;
  std::size_t tile;       // the first row of its tile …
  std::size_t tile_rows;  // … and how many that has
  bool whole;
  const std::uint8_t* image;
  std::ptrdiff_t corner[3];  // where tap 0 of the first row is
};

Indirection::Indirection(const Phase& phase, const std::uint8_t* x, std::size_t channels, const std::uint8_t* padding)
    : phase_(phase),
      x_(x),
      channels_(channels),
      padding_(padding),
      row_bytes_(phase.axes[2].stride * channels),
      pointwise_(std::all_of(std::begin(phase.axes), std::end(phase.axes),
                             [](const Axis& axis) {
                               return axis.taps == 1 && axis.stride == 1 && axis.first_offset == 0 &&
                                      axis.positions == axis.in;
                             })),
      adjacent_(phase.axes[2].offset_step == 1),
      tabled_(phase.taps() <= kMostTabledTaps) {
  for (std::size_t d = 0; d < 3; ++d) {
    const Axis& axis = phase.axes[d];
    const auto stride = static_cast<std::ptrdiff_t>(axis.stride);
    const auto taps = static_cast<std::ptrdiff_t>(axis.taps);
    const std::ptrdiff_t last_offset = axis.first_offset + (taps - 1) * axis.offset_step;
    const std::ptrdiff_t before = std::max<std::ptrdiff_t>(0, -std::min(axis.first_offset, last_offset));
    const std::ptrdiff_t room = static_cast<std::ptrdiff_t>(axis.in) - std::max(axis.first_offset, last_offset);
    whole_[d].begin = static_cast<std::size_t>((before + stride - 1) / stride);
    whole_[d].end = room <= 0 ? 0 : std::min(axis.positions, static_cast<std::size_t>((room - 1) / stride + 1));
  }
  if (!pointwise_ && tabled_) fill_tap_bytes();
}

void Indirection::fill_tap_bytes() {
  const Axis(&axes)[3] = phase_.axes;
  std::ptrdiff_t step[3];
  std::ptrdiff_t unit = static_cast<std::ptrdiff_t>(channels_);
  for (std::size_t d = 3; d-- > 0; unit *= static_cast<std::ptrdiff_t>(axes[d].in)) step[d] = unit * axes[d].offset_step;
  std::ptrdiff_t* bytes = tap_bytes_;
  std::ptrdiff_t depth = 0;
  for (std::size_t d = 0; d < axes[0].taps; ++d, depth += step[0]) {
    std::ptrdiff_t line = depth;
    for (std::size_t h = 0; h < axes[1].taps; ++h, line += step[1]) {
      std::ptrdiff_t tap = line;
      for (std::size_t w = 0; w < axes[2].taps; ++w, tap += step[2]) *bytes++ = tap;
    }
  }
}

template <class F>
void Indirection::for_each_run(const RowBlock& block, F f) const {
  const Axis(&axes)[3] = phase_.axes;
  const std::size_t image_bytes = axes[0].in * axes[1].in * axes[2].in * channels_;
  const auto whole = [&](const Position& position, std::size_t d) {
    return position.at[d] >= whole_[d].begin && position.at[d] < whole_[d].end;
  };
  Position position(phase_, block.first_row);
  std::size_t tile = 0;
  std::size_t tile_end = 0;
  for (std::size_t row = 0; row < block.rows;) {
    if (row == tile_end) {
      tile = row;
      tile_end = std::min(tile + block.tile_rows, block.rows);
    }
    Run run{row, 1, tile, tile_end - tile, false, x_ + position.image * image_bytes, {}};
    run.whole = whole(position, 0) && whole(position, 1) && whole(position, 2);
    if (run.whole) run.count = std::min(tile_end - row, whole_[2].end - position.at[2]);
    for (std::size_t d = 0; d < 3; ++d) {
      run.corner[d] = static_cast<std::ptrdiff_t>(position.at[d] * axes[d].stride) + axes[d].first_offset;
    }
    f(run);
    row += run.count;
    position.advance(phase_, run.count);
  }
}

// f(tap, position of the line's first pixel, whether the line exists) for the first tap of each line of taps.
template <class F>
void Indirection::for_each_line(const Run& run, F f) const {
  const Axis(&axes)[3] = phase_.axes;
  std::size_t tap = 0;
  std::ptrdiff_t depth = run.corner[0];
  for (std::size_t d = 0; d < axes[0].taps; ++d, depth += axes[0].offset_step) {
    std::ptrdiff_t line = run.corner[1];
    for (std::size_t h = 0; h < axes[1].taps; ++h, line += axes[1].offset_step, tap += axes[2].taps) {
      const std::ptrdiff_t first = (depth * static_cast<std::ptrdiff_t>(axes[1].in) + line) *
                                   static_cast<std::ptrdiff_t>(axes[2].in);
      f(tap, first, inside(depth, axes[0].in) && inside(line, axes[1].in));
    }
  }
}

// f(tap, pixel) for the run's first row.
template <class F>
void Indirection::for_each_tap(const Run& run, F f) const {
  const Axis& axis = phase_.axes[2];
  for_each_line(run, [&](std::size_t tap, std::ptrdiff_t first, bool exists) {
    std::ptrdiff_t column = run.corner[2];
    for (std::size_t w = 0; w < axis.taps; ++w, column += axis.offset_step) {
      const bool pixel = exists && inside(column, axis.in);
      f(tap + w, pixel ? run.image + static_cast<std::size_t>(first + column) * channels_ : padding_);
    }
  });
}

// The pointers to every `step`th tap of a run that sees no padding: pointers[tap][row of the tile].
void Indirection::point_inside(const Run& run, const TapRange& taps, std::size_t step,
                               const std::uint8_t** pointers) const {
  const std::ptrdiff_t line = run.corner[0] * static_cast<std::ptrdiff_t>(phase_.axes[1].in) + run.corner[1];
  const std::ptrdiff_t pixel = line * static_cast<std::ptrdiff_t>(phase_.axes[2].in) + run.corner[2];
  const std::uint8_t* corner = run.image + pixel * static_cast<std::ptrdiff_t>(channels_);
  for (std::size_t row = 0; row < run.count; ++row, corner += row_bytes_) {
    const std::uint8_t** target = pointers + row;
    for (std::size_t tap = 0; tap < taps.count; ++tap, target += run.tile_rows) {
      *target = corner + tap_bytes_[taps.first + tap * step];
    }
  }
}

void Indirection::point(const RowBlock& block, const TapRange& taps, const std::uint8_t** pointers) const {
  for_each_run(block, [&](const Run& run) {
    const std::uint8_t** first = pointers + run.tile * taps.count + (run.row - run.tile);
    if (run.whole && tabled_) return point_inside(run, taps, 1, first);
    for_each_tap(run, [&](std::size_t tap, const std::uint8_t* pixel) {
      if (tap - taps.first >= taps.count) return;
      const std::uint8_t** target = first + (tap - taps.first) * run.tile_rows;
      for (std::size_t i = 0; i < run.count; ++i) target[i] = pixel + i * row_bytes_;
    });
  });
}

void Indirection::point_lines(const RowBlock& block, const std::uint8_t** pointers, std::uint8_t* bytes) const {
  const Axis& columns = phase_.axes[2];
  const std::size_t line_bytes = columns.taps * channels_;
  const std::size_t lines = phase_.axes[0].taps * phase_.axes[1].taps;
  for_each_run(block, [&](const Run& run) {
    const std::uint8_t** target = pointers + run.tile * lines + (run.row - run.tile);
    if (run.whole && tabled_) return point_inside(run, {0, lines}, columns.taps, target);
    const bool whole = run.corner[2] >= 0 && inside(run.corner[2] + static_cast<std::ptrdiff_t>(columns.taps) - 1,
                                                    columns.in);
    for_each_line(run, [&](std::size_t, std::ptrdiff_t first, bool exists) {
      const std::uint8_t* line = padding_;
      if (exists && whole) {
        line = run.image + static_cast<std::size_t>(first + run.corner[2]) * channels_;
      } else if (exists) {
        line = bytes;
        std::memcpy(bytes, padding_, line_bytes);
        const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(0, -run.corner[2]);
        const std::ptrdiff_t end = std::min(static_cast<std::ptrdiff_t>(columns.taps),
                                            static_cast<std::ptrdiff_t>(columns.in) - run.corner[2]);
        if (begin < end) {
          std::memcpy(bytes + static_cast<std::size_t>(begin) * channels_,
                      run.image + static_cast<std::size_t>(first + run.corner[2] + begin) * channels_,
                      static_cast<std::size_t>(end - begin) * channels_);
        }
        bytes += line_bytes;
      }
      for (std::size_t i = 0; i < run.count; ++i) target[i] = line + i * row_bytes_;
      target += run.tile_rows;
    });
  });
}

void Indirection::gather(const RowBlock& block, const TapRange& taps, std::size_t tap_bytes, std::size_t pitch,
                         std::uint8_t* bytes) const {
  const bool lines = adjacent_ && tap_bytes == channels_ && taps.count == phase_.taps();
  for_each_run({block.first_row, block.rows, block.rows}, [&](const Run& run) {
    std::uint8_t* target = bytes + run.row * pitch;
    if (lines && run.whole) {
      return for_each_line(run, [&](std::size_t tap, std::ptrdiff_t first, bool) {
        copy_rows(run.image + static_cast<std::size_t>(first + run.corner[2]) * channels_, row_bytes_, run.count,
                  phase_.axes[2].taps * channels_, target + tap * tap_bytes, pitch);
      });
    }
    for_each_tap(run, [&](std::size_t tap, const std::uint8_t* pixel) {
      if (tap - taps.first >= taps.count) return;
      const std::size_t step = pixel == padding_ ? 0 : row_bytes_;
      copy_rows(pixel, step, run.count, channels_, target + (tap - taps.first) * tap_bytes, pitch);
    });
  });
}

void Indirection::output_pixels(const RowBlock& block, std::size_t* pixels) const {
  const Axis(&axes)[3] = phase_.axes;
  const auto dense = [](const Axis& axis) { return axis.out_step == 1; };
  if (std::all_of(std::begin(axes), std::end(axes), dense)) {
    return std::iota(pixels, pixels + block.rows, block.first_row);
  }
  Position position(phase_, block.first_row);
  for (std::size_t row = 0; row < block.rows; ++row, position.advance(phase_, 1)) {
    std::size_t pixel = position.image;
    for (std::size_t d = 0; d < 3; ++d) {
      pixel = pixel * axes[d].out + axes[d].first_out + position.at[d] * axes[d].out_step;
    }
    pixels[row] = pixel;
  }
}

}  // namespace ort_quant
