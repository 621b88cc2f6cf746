#include "qpack.h"

#include <algorithm>

namespace ort_quant {
namespace {

constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

std::size_t tap_count(const ConvShape& shape) { return shape.kernel[0] * shape.kernel[1] * shape.kernel[2]; }

// How many neighbouring groups become one: what needs the fewest products of vectors. At least four input channels.
std::size_t merged_groups(const ConvShape& shape) {
  const std::size_t in = shape.channels_in / shape.group;
  const std::size_t out = shape.channels_out / shape.group;
  std::size_t best = shape.group;
  std::size_t least = SIZE_MAX;
  for (std::size_t merged = 1; merged <= shape.group; ++merged) {
    if (shape.group % merged != 0 || (merged * in < kDepthStep && merged != shape.group)) continue;
    const std::size_t products =
        shape.group / merged * divide_up(merged * in, kDepthStep) * divide_up(merged * out, kLanes);
    if (products < least) {
      least = products;
      best = merged;
    }
  }
  return best;
}

// Of an output and an input channel of the whole layer; zero where their groups differ.
std::int8_t weight_of(const ConvShape& shape, Span<const std::int8_t> weights, std::size_t out, std::size_t in,
                      std::size_t tap) {
  const std::size_t group_in = shape.channels_in / shape.group;
  const std::size_t group_out = shape.channels_out / shape.group;
  if (in / group_in != out / group_out) return 0;
  const std::size_t filter = shape.transposed ? in * group_out + out % group_out : out * group_in + in % group_in;
  return weights[filter * tap_count(shape) + tap];
}

std::int32_t wrapping_difference(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
}

std::size_t widest_tile(const QuantizedKernels& kernels) {
  std::size_t width = kMaxTileWidth;
  while (kernels.tiles[width - 1][0] == nullptr) --width;
  return width;
}

std::size_t most_rows(const QuantizedKernels& kernels, std::size_t width) {
  std::size_t rows = kMaxTileRows;
  while (kernels.tiles[width - 1][rows - 1] == nullptr) --rows;
  return rows;
}

}  // namespace

PackedWeights::PackedWeights(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> layer_deq,
                             Span<const std::int32_t> layer_bias, std::int32_t zero, const QuantizedKernels& kernels)
    : taps(tap_count(shape)), tile_rows(kMaxTileRows) {
  const std::size_t merged = merged_groups(shape);
  group_in = shape.channels_in / shape.group * merged;
  group_out = shape.channels_out / shape.group * merged;
  gathered = group_in < kDepthStep;
  tap_bytes = shape.transposed ? kDepthStep : group_in;
  depth = group_in / kDepthStep * kDepthStep;
  tail = group_in == depth || gathered ? 0 : group_in - kDepthStep;
  steps_of_tap = divide_up(group_in, kDepthStep);
  choose_panels(shape, shape.group / merged, kernels);
  for (const Panel& panel : panels) {
    for (std::size_t lane = 0; lane < panel.channels; ++lane) {
      const std::size_t channel = panel.first_out + lane;
      deq[panel.column + lane] = layer_deq[layer_deq.size == 1 ? 0 : channel];
      if (!layer_bias.empty()) bias[panel.column + lane] = layer_bias[channel];
      pack_channel(shape, weights, panel, lane, zero);
    }
  }
}

std::size_t PackedWeights::steps() const {
  return gathered ? divide_up(taps * tap_bytes, kDepthStep) : taps * steps_of_tap;
}

void PackedWeights::choose_panels(const ConvShape& shape, std::size_t groups, const QuantizedKernels& kernels) {
  std::size_t column = 0;
  std::size_t place = 0;
  for (std::size_t group = 0; group < groups; ++group) {
    // As few panels as there can be, of nearly the same width.
    const std::size_t vectors = divide_up(group_out, kLanes);
    const std::size_t count = divide_up(vectors, widest_tile(kernels));
    std::size_t first = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t width = vectors * (i + 1) / count - vectors * i / count;
      const std::size_t channels = std::min(width * kLanes, group_out - first);
      panels.push_back({group * group_in, group * group_out + first, channels, width, column, place});
      tile_rows = std::min(tile_rows, most_rows(kernels, width));
      column += width * kLanes;
      place += steps() * width * kVectorBytes;
      first += channels;
    }
  }
  data.assign(place, 0);
  deq.assign(column, 0.0f);
  bias.assign(column, 0);
  start.assign(column, 0);
  if (shape.transposed) tap_sums.assign(taps * column, 0);
}

std::size_t PackedWeights::position(const Panel& panel, std::size_t lane, std::size_t tap, std::size_t channel) const {
  std::size_t step;
  std::size_t byte;
  if (gathered) {
    const std::size_t offset = tap * tap_bytes + channel;
    step = offset / kDepthStep;
    byte = offset % kDepthStep;
  } else {
    step = tap * steps_of_tap + channel / kDepthStep;
    byte = channel < depth ? channel % kDepthStep : channel - tail;
  }
  return panel.weights + (step * panel.width + lane / kLanes) * kVectorBytes + lane % kLanes * kDepthStep + byte;
}

void PackedWeights::pack_channel(const ConvShape& shape, Span<const std::int8_t> weights, const Panel& panel,
                                 std::size_t lane, std::int32_t zero) {
  const std::size_t column = panel.column + lane;
  std::int32_t sum_of_start = bias[column];
  for (std::size_t tap = 0; tap < taps; ++tap) {
    std::int32_t sum = 0;
    for (std::size_t channel = 0; channel < group_in; ++channel) {
      const std::int8_t weight = weight_of(shape, weights, panel.first_out + lane, panel.first_in + channel, tap);
      data[position(panel, lane, tap, channel)] = weight;
      sum += weight;
    }
    const auto scaled = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) * static_cast<std::uint32_t>(zero));
    sum_of_start = wrapping_difference(sum_of_start, scaled);
    if (!tap_sums.empty()) tap_sums[tap * deq.size() + column] = scaled;
  }
  start[column] = sum_of_start;
}

}  // namespace ort_quant
