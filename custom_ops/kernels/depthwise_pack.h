// The weights of a depthwise convolution as its kernel reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "depthwise.h"
#include "depthwise_job.h"
#include "layer_table.h"

namespace ort_quant {

// The window of the params with three dimensions. `turned` where the kernel is a single row: rows and columns have
// changed places, because the kernel works fastest along the rows' axis.
struct DepthwiseWindow {
  std::int64_t kernel[3];
  std::int64_t strides[3];
  std::int64_t dilations[3];
  bool turned;
};

DepthwiseWindow window_of(const DepthwiseParams& params);

// The rows that a group of output rows reads.
struct DepthwiseGroup {
  std::size_t rows;                 // output rows of the group
  std::vector<DepthwiseRow> list;   // a multiple of four
  std::size_t distinct;             // the list's rows that count; the others complete the last quad
  std::size_t quads() const { return list.size() / 4; }
};

// The cheapest group, or one without a list where a column would take more room than kMaxColumnQuads.
DepthwiseGroup choose_group(const DepthwiseWindow& window);

class DepthwiseWeights {
 public:
  DepthwiseWeights(const DepthwiseParams& params, const DepthwiseWindow& window, const DepthwiseGroup& group,
                   const LayerTable& layers);
  DepthwiseWeights(const DepthwiseWeights&) = delete;
  DepthwiseWeights& operator=(const DepthwiseWeights&) = delete;

  const std::vector<DepthwiseBlock>& blocks() const { return blocks_; }

 private:
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };

  std::vector<DepthwiseBlock> blocks_;
  std::vector<Line> memory_;
};

}  // namespace ort_quant
