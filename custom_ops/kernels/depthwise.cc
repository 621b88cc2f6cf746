#include "depthwise.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "depthwise_pack.h"
#include "depthwise_plain.h"
#include "layer_table.h"

namespace ort_quant {
namespace {

struct Bounds {
  double y = 0;           // the largest |y| that any input can give: if it is small, int32 codes cannot overflow
  bool from_zero = true;  // see DepthwiseJob
};

Bounds bounds_of(const DepthwiseParams& params) {
  const std::size_t taps = params.weights.size / params.channels;
  Bounds bounds;
  for (std::size_t c = 0; c < params.channels; ++c) {
    double sum = params.bias.empty() ? 0.0 : std::fabs(static_cast<double>(params.bias[c]));
    for (std::size_t tap = 0; tap < taps; ++tap) sum += 255.0 * std::abs(params.weights[c * taps + tap]);
    const auto deq = static_cast<double>(params.deq[params.deq.size == 1 ? 0 : c]);
    bounds.y = std::max(bounds.y, std::min(sum, 0x1p31) * std::fabs(deq));
    bounds.from_zero = bounds.from_zero && sum < 0x1p23 && deq >= 0 && deq < 0x1p100;
  }
  return bounds;
}

// Whether saturation to a byte does not do all the clipping.
bool needs_clip(const ByteOutput& bytes, double bound) {
  const auto offset = static_cast<float>(bytes.quantizer.offset);
  const float low = std::nearbyint(bytes.lowest * bytes.quantizer.scale);
  const float high = std::nearbyint(bytes.highest * bytes.quantizer.scale);
  if (bound * static_cast<double>(bytes.quantizer.scale) > 0x1p30) return true;  // codes beyond an int32
  return low > -128.0f - offset || high < 127.0f - offset;
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Output columns whose input columns stay in the first-level cache, all tiles about equally wide.
std::int64_t tile_columns(const DepthwiseWindow& window, std::size_t quads, std::int64_t out) {
  const std::int64_t taps = (window.kernel[2] - 1) * window.dilations[2] + 1;
  const auto most = [&](std::size_t room) {
    return (static_cast<std::int64_t>(room / quads) - taps) / window.strides[2] + 1;
  };
  const std::int64_t handy = static_cast<std::int64_t>(kHandyColumnQuads / quads) >= taps ? most(kHandyColumnQuads) : 0;
  const std::int64_t columns = handy >= 4 || handy >= out ? handy : most(kMaxColumnQuads);
  return ceil_div(out, ceil_div(out, columns));
}

// Output rows of a task: their input stays in the second-level cache while one block of channels after the other reads
// it.
std::int64_t band_rows(const DepthwiseJob& job, std::size_t parts) {
  constexpr std::int64_t kBandBytes = 96 * 1024;
  const auto unit = static_cast<std::int64_t>(job.group_rows * parts);
  const std::int64_t row_bytes = job.strides[1] * job.in[2] * static_cast<std::int64_t>(job.channels);
  const std::int64_t rows = std::max(unit, kBandBytes / std::max<std::int64_t>(row_bytes, 1) / unit * unit);
  return ceil_div(ceil_div(job.out[1], ceil_div(job.out[1], rows)), unit) * unit;
}

}  // namespace

struct PackedDepthwise::State {
  State(const DepthwiseParams& params, const LayerTable& table)
      : layers(table),
        window(window_of(params)),
        group(choose_group(window)),
        zero_point(static_cast<std::uint8_t>(params.x_offset + 128)),
        bounds(bounds_of(params)) {
    if (group.rows == 0) {
      plain = std::make_unique<PlainDepthwise>(params);
    } else {
      weights = std::make_unique<DepthwiseWeights>(params, window, group, table);
    }
  }

  DepthwiseJob job_of(const WindowGeometry& geometry, const LayerOutput& output) const;

  const LayerTable& layers;
  DepthwiseWindow window;
  DepthwiseGroup group;
  std::uint8_t zero_point;
  Bounds bounds;
  std::unique_ptr<DepthwiseWeights> weights;
  std::unique_ptr<PlainDepthwise> plain;  // where the window is too large for columns
};

// All but the image, depth, rows and blocks of a task.
DepthwiseJob PackedDepthwise::State::job_of(const WindowGeometry& geometry, const LayerOutput& output) const {
  DepthwiseJob job{};
  job.rows = group.list.data();
  job.quads = group.quads();
  job.group_rows = group.rows;
  job.kernel_columns = static_cast<std::size_t>(window.kernel[2]);
  job.column_dilation = window.dilations[2];
  job.zero_point = zero_point;
  job.channels = geometry.channels;
  job.output = output;
  job.clipped = output.pieces.take == nullptr && needs_clip(output.bytes, bounds.y);
  job.from_zero = bounds.from_zero && output.bytes.quantizer.offset == -128;
  std::copy(geometry.in, geometry.in + 3, job.in);
  std::copy(geometry.out, geometry.out + 3, job.out);
  std::copy(geometry.pads_begin, geometry.pads_begin + 3, job.pads_begin);
  std::copy(window.strides, window.strides + 3, job.strides);
  for (std::size_t d = 3; d-- > 0;) {
    job.x_steps[d] = d == 2 ? static_cast<std::int64_t>(geometry.channels) : job.x_steps[d + 1] * job.in[d + 1];
    job.y_steps[d] = d == 2 ? 1 : job.y_steps[d + 1] * job.out[d + 1];
  }
  if (window.turned) {
    for (std::int64_t* values : {job.in, job.out, job.pads_begin, job.x_steps, job.y_steps}) {
      std::swap(values[1], values[2]);
    }
  }
  job.tile_columns = tile_columns(window, job.quads, job.out[2]);
  return job;
}

PackedDepthwise::PackedDepthwise(const DepthwiseParams& params, const KernelTable& kernels)
    : state_(std::make_unique<const State>(params, layers_of(kernels))) {}
PackedDepthwise::PackedDepthwise(PackedDepthwise&&) noexcept = default;
PackedDepthwise& PackedDepthwise::operator=(PackedDepthwise&&) noexcept = default;
PackedDepthwise::~PackedDepthwise() = default;

void PackedDepthwise::run(const WindowGeometry& window, const std::uint8_t* x, const LayerOutput& output,
                          const ForEach& for_each) const {
  const WindowGeometry geometry = with_three_dimensions(window);
  const std::int64_t positions = geometry.out[0] * geometry.out[1] * geometry.out[2];
  if (positions <= 0 || geometry.batch == 0) return;
  if (state_->plain) return state_->plain->run(geometry, x, output, for_each);

  const DepthwiseJob common = state_->job_of(geometry, output);
  const std::vector<DepthwiseBlock>& blocks = state_->weights->blocks();
  // A remainder goes with the block before it: they share channels.
  const std::size_t chunks = std::max<std::size_t>(1, geometry.channels / state_->layers.register_bytes);
  const std::int64_t rows = band_rows(common, blocks.back().parts);
  const auto bands = static_cast<std::size_t>(ceil_div(common.out[1], rows));
  const auto depths = static_cast<std::size_t>(common.out[0]);
  const auto image_bytes = common.in[0] * common.in[1] * common.in[2] * static_cast<std::int64_t>(common.channels);
  for_each(geometry.batch * depths * bands * chunks, [&](std::size_t task) {
    DepthwiseJob job = common;
    const std::size_t chunk = task % chunks;
    const std::size_t band = task / chunks % bands;
    const auto image = static_cast<std::int64_t>(task / chunks / bands / depths);
    job.blocks = blocks.data() + chunk;
    job.block_count = chunk + 1 == chunks ? blocks.size() - chunk : 1;
    job.x = x + image * image_bytes;
    job.position = image * positions;
    job.depth = static_cast<std::int64_t>(task / chunks / bands % depths);
    job.row_begin = static_cast<std::int64_t>(band) * rows;
    job.row_end = std::min(job.row_begin + rows, job.out[1]);
    state_->layers.depthwise(job);
  });
}

}  // namespace ort_quant
