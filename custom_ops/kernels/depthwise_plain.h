// Depthwise convolution tap by tap, for windows that are too large for the interleaved columns of depthwise_job.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "depthwise.h"
#include "layer_output.h"
#include "range.h"
#include "window.h"

namespace ort_quant {

class PlainDepthwise {
 public:
  explicit PlainDepthwise(const DepthwiseParams& params);

  // `window` has three dimensions.
  void run(const WindowGeometry& window, const std::uint8_t* x, const LayerOutput& output,
           const ForEach& for_each) const;

 private:
  void run_position(const WindowGeometry& window, const std::uint8_t* x, const LayerOutput& output,
                    std::size_t position) const;
  void add_taps(const WindowGeometry& window, const std::uint8_t* image, const std::int64_t* first, std::size_t channel,
                std::size_t count, std::uint32_t* sums) const;

  std::size_t channels_;
  std::int32_t zero_point_;
  std::vector<std::int8_t> weights_;    // [taps, channels]
  std::vector<std::int32_t> bias_;      // [channels]
  std::vector<float> deq_;              // [channels]
};

}  // namespace ort_quant
