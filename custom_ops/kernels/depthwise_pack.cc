#include "depthwise_pack.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

namespace ort_quant {
namespace {

DepthwiseGroup make_group(const DepthwiseWindow& window, std::size_t rows) {
  std::set<std::pair<std::int64_t, std::int64_t>> taps;
  for (std::int64_t depth = 0; depth < window.kernel[0]; ++depth) {
    for (std::int64_t row = 0; row < window.kernel[1]; ++row) {
      for (std::size_t r = 0; r < rows; ++r) {
        taps.insert({depth * window.dilations[0],
                     static_cast<std::int64_t>(r) * window.strides[1] + row * window.dilations[1]});
      }
    }
  }
  DepthwiseGroup group{rows, {}, taps.size()};
  for (const auto& [depth, row] : taps) group.list.push_back({depth, row});
  while (group.list.size() % 4 != 0) group.list.push_back(group.list.back());
  return group;
}

// Cycles per output register, about: dot products, and interleaving of the columns that are new for an output.
double cost_of(const DepthwiseWindow& window, const DepthwiseGroup& group) {
  const auto quads = static_cast<double>(group.quads());
  const double dots = 0.5 * static_cast<double>(window.kernel[2]) * quads;
  const auto new_columns = static_cast<double>(std::min(window.strides[2], window.kernel[2]));
  return dots + 2.0 * quads * new_columns / static_cast<double>(group.rows);
}

bool fits(const DepthwiseWindow& window, const DepthwiseGroup& group) {
  const auto columns = static_cast<std::size_t>((window.kernel[2] - 1) * window.dilations[2] + 1);
  return group.quads() <= kMaxQuads && columns <= kMaxColumnQuads / group.quads();
}

// The remainder of the channels becomes the last block; it reaches back over channels of the block before where that
// lets it read and write its full width.
std::vector<DepthwiseBlock> cut_channels(std::size_t channels, std::size_t register_bytes) {
  std::vector<DepthwiseBlock> blocks;
  const auto add = [&](std::size_t first, std::size_t count, std::size_t repeated, std::size_t parts) {
    blocks.push_back({first, count, repeated, register_bytes / parts, parts, nullptr, nullptr, nullptr});
  };
  std::size_t done = 0;
  for (; done + register_bytes <= channels; done += register_bytes) add(done, register_bytes, 0, 1);
  const std::size_t rest = channels - done;
  if (rest == 0) return blocks;
  std::size_t parts = 1;
  while (parts < kMaxDepthwiseParts && register_bytes / (2 * parts) >= std::max<std::size_t>(rest, 16)) parts *= 2;
  const std::size_t width = register_bytes / parts;
  const std::size_t first = channels < width ? 0 : channels - width;
  add(first, std::min(channels, width), done - first, parts);
  return blocks;
}

class Packer {
 public:
  Packer(const DepthwiseParams& params, const DepthwiseWindow& window, const DepthwiseGroup& group,
         const LayerTable& layers)
      : params_(params), window_(window), group_(group), layers_(layers) {}

  std::size_t taps_bytes() const { return layers_.register_bytes * (layers_.word_weights ? 2 : 1); }
  std::size_t weight_bytes() const {
    return 4 * group_.quads() * static_cast<std::size_t>(window_.kernel[2]) * group_.rows * taps_bytes();
  }
  std::size_t block_bytes() const { return weight_bytes() + 2 * 4 * layers_.register_bytes; }

  void pack(DepthwiseBlock& block, std::uint8_t* memory) const {
    std::uint8_t* start = memory + weight_bytes();
    std::uint8_t* deq = start + 4 * layers_.register_bytes;
    block.weights = memory;
    block.start = start;
    block.deq = deq;
    pack_weights(block, memory);
    for (std::size_t i = 0; i < layers_.register_bytes; ++i) {
      const std::size_t within = interleaved_byte(i) % block.width;
      if (within >= block.count) continue;
      const std::size_t channel = block.first + within;
      const std::int32_t first_sum = start_of(channel);
      std::memcpy(start + 4 * i, &first_sum, 4);
      std::memcpy(deq + 4 * i, &params_.deq[params_.deq.size == 1 ? 0 : channel], 4);
    }
  }

 private:
  // The byte that comes at place i of the results: [j][128-bit lane][byte of four].
  std::size_t interleaved_byte(std::size_t i) const {
    const std::size_t lanes = layers_.register_bytes / 4;
    return i % lanes / 4 * 16 + i / lanes * 4 + i % 4;
  }

  void pack_weights(const DepthwiseBlock& block, std::uint8_t* target) const {
    const auto columns = static_cast<std::size_t>(window_.kernel[2]);
    const std::size_t lanes = layers_.register_bytes / 4;
    for (std::size_t j = 0; j < 4; ++j) {
      for (std::size_t q = 0; q < group_.quads(); ++q) {
        for (std::size_t column = 0; column < columns; ++column) {
          for (std::size_t r = 0; r < group_.rows; ++r, target += taps_bytes()) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
              const std::size_t within = interleaved_byte(j * lanes + lane) % block.width;
              if (within >= block.count) continue;
              for (std::size_t tap = 0; tap < 4; ++tap) {
                put(target, lane, tap, weight(block.first + within, r, 4 * q + tap, column));
              }
            }
          }
        }
      }
    }
  }

  void put(std::uint8_t* target, std::size_t lane, std::size_t tap, std::int8_t weight) const {
    if (!layers_.word_weights) {
      target[4 * lane + tap] = static_cast<std::uint8_t>(weight);
      return;
    }
    const std::int16_t word = weight;
    std::memcpy(target + tap % 2 * layers_.register_bytes + 4 * lane + tap / 2 * 2, &word, sizeof word);
  }

  std::int8_t weight(std::size_t channel, std::size_t group_row, std::size_t list_row, std::size_t column) const {
    if (list_row >= group_.distinct) return 0;
    const DepthwiseRow& at = group_.list[list_row];
    const std::int64_t row = at.row - static_cast<std::int64_t>(group_row) * window_.strides[1];
    if (row < 0 || row % window_.dilations[1] != 0 || row / window_.dilations[1] >= window_.kernel[1]) return 0;
    const std::int64_t depth = at.depth / window_.dilations[0];
    const std::int64_t tap = (depth * window_.kernel[1] + row / window_.dilations[1]) * window_.kernel[2] +
                             static_cast<std::int64_t>(column);  // a turned kernel has one column: the same order
    return params_.weights[channel * taps() + static_cast<std::size_t>(tap)];
  }

  std::int32_t start_of(std::size_t channel) const {
    std::int64_t sum = 0;
    for (std::size_t tap = 0; tap < taps(); ++tap) sum += params_.weights[channel * taps() + tap];
    const std::int64_t bias = params_.bias.empty() ? 0 : params_.bias[channel];
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(bias - (params_.x_offset + 128) * sum));
  }

  std::size_t taps() const { return params_.weights.size / params_.channels; }

  const DepthwiseParams& params_;
  const DepthwiseWindow& window_;
  const DepthwiseGroup& group_;
  const LayerTable& layers_;
};

}  // namespace

DepthwiseWindow window_of(const DepthwiseParams& params) {
  DepthwiseWindow window{{1, 1, 1}, {1, 1, 1}, {1, 1, 1}, false};
  for (std::size_t d = 0; d < params.rank; ++d) {
    const std::size_t to = 3 - params.rank + d;
    window.kernel[to] = params.kernel[d];
    window.strides[to] = params.strides[d];
    window.dilations[to] = params.dilations[d];
  }
  window.turned = window.kernel[0] == 1 && window.kernel[1] == 1;
  if (window.turned) {
    std::swap(window.kernel[1], window.kernel[2]);
    std::swap(window.strides[1], window.strides[2]);
    std::swap(window.dilations[1], window.dilations[2]);
  }
  return window;
}

DepthwiseGroup choose_group(const DepthwiseWindow& window) {
  DepthwiseGroup best{0, {}, 0};
  // A list longer than this fits with no number of rows.
  if (window.kernel[0] * window.kernel[1] > static_cast<std::int64_t>(4 * kMaxQuads)) return best;
  for (std::size_t rows : {1, 2, 4}) {
    DepthwiseGroup group = make_group(window, rows);
    if (!fits(window, group)) continue;
    if (best.rows == 0 || cost_of(window, group) < cost_of(window, best)) best = std::move(group);
  }
  return best;
}

DepthwiseWeights::DepthwiseWeights(const DepthwiseParams& params, const DepthwiseWindow& window,
                                   const DepthwiseGroup& group, const LayerTable& layers)
    : blocks_(cut_channels(params.channels, layers.register_bytes)) {
  const Packer packer(params, window, group, layers);
  const std::size_t lines = (packer.block_bytes() + sizeof(Line) - 1) / sizeof(Line);
  memory_.resize(lines * blocks_.size(), Line{});
  for (std::size_t b = 0; b < blocks_.size(); ++b) packer.pack(blocks_[b], memory_[b * lines].bytes);
}

}  // namespace ort_quant
