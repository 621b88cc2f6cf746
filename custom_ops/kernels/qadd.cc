#include "qadd.h"

#include <algorithm>

#include "layer_table.h"

namespace ort_quant {

void add_quantized(const std::uint8_t* a, const ByteDequantizer& of_a, const std::uint8_t* b,
                   const ByteDequantizer& of_b, std::size_t rows, std::size_t channels, const LayerOutput& output,
                   const KernelTable& kernels, const ForEach& for_each) {
  constexpr std::size_t kBlockValues = 16384;  // worth a thread
  const LayerTable& layers = layers_of(kernels);
  const std::size_t count = rows * channels;
  for_each((count + kBlockValues - 1) / kBlockValues, [&](std::size_t i) {
    const std::size_t begin = i * kBlockValues;
    const std::size_t end = std::min(count, begin + kBlockValues);
    layers.add({a, b, of_a.scale, of_b.scale, of_a.offset + 128, of_b.offset + 128, begin, end, channels}, output);
  });
}

}  // namespace ort_quant
