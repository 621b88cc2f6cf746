#include "pool.h"

#include <algorithm>

#include "layer_table.h"

namespace ort_quant {
namespace {

PoolJob job_of(const WindowGeometry& window, const std::uint8_t* x, std::uint8_t* y) {
  PoolJob job{};
  job.x = x;
  job.y = y;
  job.channels = window.channels;
  std::copy(window.in, window.in + 3, job.in);
  std::copy(window.out, window.out + 3, job.out);
  std::copy(window.kernel, window.kernel + 3, job.kernel);
  std::copy(window.strides, window.strides + 3, job.strides);
  std::copy(window.dilations, window.dilations + 3, job.dilations);
  std::copy(window.pads_begin, window.pads_begin + 3, job.pads_begin);
  return job;
}

// body(job) for blocks of output rows that are worth a thread.
template <class F>
void for_rows(const WindowGeometry& window, PoolJob job, const ForEach& for_each, F body) {
  constexpr std::size_t kBlockReads = 65536;
  const auto rows = window.batch * static_cast<std::size_t>(window.out[0] * window.out[1]);
  const auto reads = static_cast<std::size_t>(window.kernel[0] * window.kernel[1] * window.kernel[2] * window.out[2]);
  const std::size_t size = std::max<std::size_t>(1, kBlockReads / std::max<std::size_t>(1, reads * window.channels));
  if (window.out[2] <= 0 || window.channels == 0) return;
  for_each((rows + size - 1) / size, [&](std::size_t i) {
    PoolJob block = job;
    block.row_begin = i * size;
    block.row_end = std::min(rows, i * size + size);
    body(block);
  });
}

}  // namespace

void max_pool(const WindowGeometry& window, const std::uint8_t* x, std::uint8_t* y, const KernelTable& kernels,
              const ForEach& for_each) {
  const LayerTable& layers = layers_of(kernels);
  const WindowGeometry full = with_three_dimensions(window);
  for_rows(full, job_of(full, x, y), for_each, [&](const PoolJob& job) { layers.max_pool(job); });
}

void average_pool(const WindowGeometry& window, const AverageParams& params, const std::uint8_t* x,
                  const LayerOutput& output, const KernelTable& kernels, const ForEach& for_each) {
  const LayerTable& layers = layers_of(kernels);
  const WindowGeometry full = with_three_dimensions(window);
  AverageJob average{static_cast<std::uint8_t>(params.x_offset + 128), params.deq, {0, 0, 0}, {}};
  std::copy(full.in, full.in + 3, average.counted_to);
  for (std::size_t d = 0; params.count_include_pad && d < window.rank; ++d) {
    const std::size_t to = 3 - window.rank + d;
    average.counted_from[to] = -full.pads_begin[to];
    average.counted_to[to] = full.in[to] + params.pads_end[d];
  }
  for_rows(full, job_of(full, x, nullptr), for_each,
           [&](const PoolJob& job) { layers.average_pool(job, average, output); });
}

void global_average_pool(const GlobalPoolShape& shape, std::int32_t x_offset, float deq, const std::uint8_t* x,
                         const LayerOutput& output, const KernelTable& kernels, const ForEach& for_each) {
  const auto positions = static_cast<std::int64_t>(shape.positions);
  const WindowGeometry window{1,   shape.batch, shape.channels, {positions}, {1}, {positions}, {1}, {1}, {0}};
  average_pool(window, {x_offset, deq, false, {}}, x, output, kernels, for_each);
}

}  // namespace ort_quant
