#include "depthwise_plain.h"

#include <algorithm>

#include "layer_store.h"

namespace ort_quant {

PlainDepthwise::PlainDepthwise(const DepthwiseParams& params)
    : channels_(params.channels),
      zero_point_(params.x_offset + 128),
      weights_(params.weights.size),
      bias_(params.channels, 0),
      deq_(params.channels) {
  const std::size_t taps = params.weights.size / channels_;
  for (std::size_t c = 0; c < channels_; ++c) {
    for (std::size_t tap = 0; tap < taps; ++tap) weights_[tap * channels_ + c] = params.weights[c * taps + tap];
    if (!params.bias.empty()) bias_[c] = params.bias[c];
    deq_[c] = params.deq[params.deq.size == 1 ? 0 : c];
  }
}

void PlainDepthwise::run(const WindowGeometry& window, const std::uint8_t* x, const LayerOutput& output,
                         const ForEach& for_each) const {
  const auto positions = static_cast<std::size_t>(window.out[0] * window.out[1] * window.out[2]);
  for_each(window.batch * positions, [&](std::size_t position) { run_position(window, x, output, position); });
}

void PlainDepthwise::run_position(const WindowGeometry& window, const std::uint8_t* x, const LayerOutput& output,
                                  std::size_t position) const {
  std::int64_t first[3];
  auto rest = static_cast<std::int64_t>(position);
  for (std::size_t d = 3; d-- > 0; rest /= window.out[d]) {
    first[d] = rest % window.out[d] * window.strides[d] - window.pads_begin[d];
  }
  const std::int64_t image_size = window.in[0] * window.in[1] * window.in[2] * static_cast<std::int64_t>(channels_);
  const std::uint8_t* image = x + rest * image_size;
  for (std::size_t c = 0; c < channels_; c += kLargestPiece) {
    const std::size_t count = std::min(kLargestPiece, channels_ - c);
    std::uint32_t sums[kLargestPiece];
    std::copy_n(bias_.begin() + static_cast<std::ptrdiff_t>(c), count, sums);
    add_taps(window, image, first, c, count, sums);
    float values[kLargestPiece];
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(static_cast<std::int32_t>(sums[i])) * deq_[c + i];
    }
    store_piece(output, values, position, channels_, c, count);
  }
}

void PlainDepthwise::add_taps(const WindowGeometry& window, const std::uint8_t* image, const std::int64_t* first,
                              std::size_t channel, std::size_t count, std::uint32_t* sums) const {
  const std::int8_t* weights = weights_.data() + channel;
  for (std::int64_t depth = 0; depth < window.kernel[0]; ++depth) {
    for (std::int64_t row = 0; row < window.kernel[1]; ++row) {
      for (std::int64_t column = 0; column < window.kernel[2]; ++column, weights += channels_) {
        const std::int64_t at[3] = {first[0] + depth * window.dilations[0], first[1] + row * window.dilations[1],
                                    first[2] + column * window.dilations[2]};
        const auto outside = [&](std::size_t d) { return at[d] < 0 || at[d] >= window.in[d]; };
        if (outside(0) || outside(1) || outside(2)) continue;
        const auto place = static_cast<std::size_t>((at[0] * window.in[1] + at[1]) * window.in[2] + at[2]);
        const std::uint8_t* values = image + place * channels_ + channel;
        for (std::size_t i = 0; i < count; ++i) {
          sums[i] += static_cast<std::uint32_t>((values[i] - zero_point_) * weights[i]);
        }
      }
    }
  }
}

}  // namespace ort_quant
