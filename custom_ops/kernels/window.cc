#include "window.h"

namespace ort_quant {

WindowGeometry with_three_dimensions(const WindowGeometry& window) {
  WindowGeometry full{3,         window.batch, window.channels, {1, 1, 1}, {1, 1, 1},
                      {1, 1, 1}, {1, 1, 1},    {1, 1, 1},       {0, 0, 0}};
  for (std::size_t d = 0; d < window.rank; ++d) {
    const std::size_t to = 3 - window.rank + d;
    full.in[to] = window.in[d];
    full.out[to] = window.out[d];
    full.kernel[to] = window.kernel[d];
    full.strides[to] = window.strides[d];
    full.dilations[to] = window.dilations[d];
    full.pads_begin[to] = window.pads_begin[d];
  }
  return full;
}

}  // namespace ort_quant
