#include "layout.h"

#include <algorithm>

#include "layer_table.h"

namespace ort_quant {
namespace {

constexpr std::size_t kBlockValues = 16384;  // worth a thread

// body(begin, size) for blocks of `count` values.
template <class F>
void for_blocks(std::size_t count, const ForEach& for_each, F body) {
  for_each((count + kBlockValues - 1) / kBlockValues, [&](std::size_t i) {
    const std::size_t begin = i * kBlockValues;
    body(begin, std::min(kBlockValues, count - begin));
  });
}

// body(index of the image's first value, positions) for blocks of positions of all images.
template <class F>
void for_planes(const Planes& planes, const ForEach& for_each, F body) {
  if (planes.channels == 0 || planes.positions == 0) return;
  constexpr std::size_t kUnit = 64;  // positions that fill a register
  const std::size_t size = std::max(kUnit, kBlockValues / planes.channels / kUnit * kUnit);
  const std::size_t blocks = (planes.positions + size - 1) / size;
  for_each(planes.batch * blocks, [&](std::size_t i) {
    const std::size_t begin = i % blocks * size;
    const std::size_t end = std::min(planes.positions, begin + size);
    body(i / blocks * planes.channels * planes.positions, PlanesJob{planes.channels, planes.positions, begin, end});
  });
}

}  // namespace

void quantize_values(const float* x, std::uint8_t* y, std::size_t count, const ByteQuantizer& quantizer,
                     const KernelTable& kernels, const ForEach& for_each) {
  const LayerTable& layers = layers_of(kernels);
  for_blocks(count, for_each, [&](std::size_t begin, std::size_t size) {
    layers.quantize(x + begin, y + begin, size, quantizer);
  });
}

void dequantize_values(const std::uint8_t* x, float* y, std::size_t count, const ByteDequantizer& dequantizer,
                       const KernelTable& kernels, const ForEach& for_each) {
  const LayerTable& layers = layers_of(kernels);
  for_blocks(count, for_each, [&](std::size_t begin, std::size_t size) {
    layers.dequantize(x + begin, y + begin, size, dequantizer.scale, dequantizer.offset + 128);
  });
}

void quantize_planes(const float* x, std::uint8_t* y, const Planes& planes, const ByteQuantizer& quantizer,
                     const KernelTable& kernels, const ForEach& for_each) {
  if (planes.channels == 1 || planes.positions == 1) {
    const std::size_t count = planes.batch * planes.channels * planes.positions;
    return quantize_values(x, y, count, quantizer, kernels, for_each);
  }
  const LayerTable& layers = layers_of(kernels);
  for_planes(planes, for_each, [&](std::size_t image, const PlanesJob& job) {
    layers.quantize_planes(x + image, y + image, job, quantizer);
  });
}

void dequantize_planes(const std::uint8_t* x, float* y, const Planes& planes, const ByteDequantizer& dequantizer,
                       const KernelTable& kernels, const ForEach& for_each) {
  if (planes.channels == 1 || planes.positions == 1) {
    const std::size_t count = planes.batch * planes.channels * planes.positions;
    return dequantize_values(x, y, count, dequantizer, kernels, for_each);
  }
  const LayerTable& layers = layers_of(kernels);
  for_planes(planes, for_each, [&](std::size_t image, const PlanesJob& job) {
    layers.dequantize_planes(x + image, y + image, job, dequantizer.scale, dequantizer.offset + 128);
  });
}

void split_planes(const float* x, float* y, const Planes& planes, const KernelTable& kernels, const ForEach& for_each) {
  const LayerTable& layers = layers_of(kernels);
  for_planes(planes, for_each,
             [&](std::size_t image, const PlanesJob& job) { layers.split_planes(x + image, y + image, job); });
}

}  // namespace ort_quant
