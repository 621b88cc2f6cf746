#include "convolution.h"

#include <algorithm>
#include <optional>

#include "attributes.h"
#include "integer_products.h"

namespace ort_quant {
namespace {

Shape spatial_part(const Shape& shape) { return {shape.begin() + 2, shape.end()}; }

Axes to_axes(const Shape& sizes) {
  Axes axes{1, 1, 1};
  std::copy(sizes.begin(), sizes.end(), axes.end() - static_cast<std::ptrdiff_t>(sizes.size()));
  return axes;
}

void check_shapes(const Shape& x, const Shape& w, bool transposed, std::int64_t group) {
  const auto refuse = [&](const std::string& what) {
    throw OpError("input 'X' has shape " + to_string(x) + " and input 'W' " + to_string(w) + ", expected " + what +
                  ". Correct the shapes or the attribute 'group'.");
  };
  if (x.size() < 3 || x.size() > 2 + kMaxSpatialRank || x.size() != w.size()) refuse("1 to 3 spatial axes in both");
  if (transposed ? x[1] != w[0] : x[1] != w[1] * group) {
    refuse("as many channels in X as in W" + (group == 1 ? "" : " with group " + std::to_string(group)));
  }
  if (w[0] % group != 0) refuse("channels that group " + std::to_string(group) + " divides");
}

// Where a transposed convolution pads itself, ONNX leaves these sizes open, and versions of ONNX Runtime differ.
void refuse_unclear_padding(const Window& window, const Axes& output_padding) {
  if (window.auto_pad != AutoPad::kSameUpper && window.auto_pad != AutoPad::kSameLower) return;
  for (std::size_t axis = 0; axis < kMaxSpatialRank; ++axis) {
    if (output_padding[axis] == 0 && window.extent(axis) >= window.strides[axis]) continue;
    refuse_attribute("auto_pad", "SAME_UPPER or SAME_LOWER",
                     "explicit pads where output_padding is not 0 or the kernel is smaller than the stride",
                     "Write the pads into the model.");
  }
}

}  // namespace

ConvPlan plan_convolution(const KernelInfo& info, bool transposed, const Shape& x, const Shape& w) {
  ConvPlan plan;
  const std::int64_t group = read_int(info, "group", 1, 1, std::int64_t{1} << 24, kCorrectModel);
  check_shapes(x, w, transposed, group);
  plan.group = static_cast<std::size_t>(group);
  const Shape kernel = spatial_part(w);
  plan.window = read_window(info, &kernel);
  const std::size_t rank = kernel.size();
  const Axes in = to_axes(spatial_part(x));
  if (transposed) {
    const Axes output_padding = read_axes(info, "output_padding", rank, 0, 0);
    std::optional<Axes> wanted;
    if (info.optional_ints("output_shape")) wanted = read_axes(info, "output_shape", rank, 1, 1);
    refuse_unclear_padding(plan.window, output_padding);
    plan.placement = place_transposed(plan.window, in, output_padding, wanted ? &*wanted : nullptr);
  } else {
    plan.placement = place(plan.window, in, false);
  }
  plan.output = {x[0], transposed ? w[1] * group : w[0]};
  plan.output.insert(plan.output.end(), plan.placement.out.end() - static_cast<std::ptrdiff_t>(rank),
                     plan.placement.out.end());
  checked_count(plan.output, "output 'Y'");
  return plan;
}

namespace {

// For each position of the output the place in the channel's plane that each tap of the kernel reads; −1 is padding.
class Taps {
 public:
  Taps(const ConvPlan& plan, bool transposed) : plan_(plan), transposed_(transposed) {
    for (std::size_t axis = 0; axis < kMaxSpatialRank; ++axis) sources_[axis] = axis_sources(axis);
  }

  std::size_t count() const { return size(plan_.window.kernel); }
  std::size_t positions() const { return size(plan_.placement.out); }
  std::size_t plane() const { return size(plan_.placement.in); }

  void read(std::size_t position, std::int32_t* taps) const {
    const auto& out = plan_.placement.out;
    const auto& kernel = plan_.window.kernel;
    const auto flat = static_cast<std::int64_t>(position);
    const std::int64_t places[] = {flat / (out[2] * out[1]), flat / out[2] % out[1], flat % out[2]};
    const std::int32_t* source[kMaxSpatialRank];
    for (std::size_t axis = 0; axis < kMaxSpatialRank; ++axis) {
      source[axis] = sources_[axis].data() + places[axis] * kernel[axis];
    }
    const auto& in = plan_.placement.in;
    for (std::int64_t i = 0; i < kernel[0]; ++i) {
      for (std::int64_t j = 0; j < kernel[1]; ++j) {
        const bool inside = source[0][i] >= 0 && source[1][j] >= 0;
        const auto row = static_cast<std::int32_t>((source[0][i] * in[1] + source[1][j]) * in[2]);
        for (std::int64_t k = 0; k < kernel[2]; ++k) *taps++ = inside && source[2][k] >= 0 ? row + source[2][k] : -1;
      }
    }
  }

 private:
  static std::size_t size(const Axes& axes) { return static_cast<std::size_t>(axes[0] * axes[1] * axes[2]); }

  // A transposed convolution reads position i for output o where o = i·stride − pad + k·dilation.
  std::vector<std::int32_t> axis_sources(std::size_t axis) const {
    const Window& window = plan_.window;
    const std::int64_t in = plan_.placement.in[axis], pad = plan_.placement.pads_begin[axis];
    std::vector<std::int32_t> sources;
    for (std::int64_t o = 0; o < plan_.placement.out[axis]; ++o) {
      for (std::int64_t k = 0; k < window.kernel[axis]; ++k) {
        std::int64_t place = o * window.strides[axis] - pad + k * window.dilations[axis];
        if (transposed_) {
          const std::int64_t scaled = o + pad - k * window.dilations[axis];
          place = scaled % window.strides[axis] == 0 ? scaled / window.strides[axis] : -1;
        }
        sources.push_back(place >= 0 && place < in ? static_cast<std::int32_t>(place) : -1);
      }
    }
    return sources;
  }

  const ConvPlan& plan_;
  bool transposed_;
  std::vector<std::int32_t> sources_[kMaxSpatialRank];
};

// One row per output channel, in the order of the columns below: input channel of the group, tap.
ShortMatrix weight_rows(const Tensor<const std::int8_t>& w, std::size_t group, bool transposed, std::size_t taps,
                        int offset) {
  const auto first = static_cast<std::size_t>(w.shape[0]), second = static_cast<std::size_t>(w.shape[1]);
  const std::size_t per_group = transposed ? second : first / group;      // output channels
  const std::size_t channels = transposed ? first / group : second;       // input channels of a group
  ShortMatrix rows(per_group * group, channels * taps);
  for (std::size_t m = 0; m < rows.rows(); ++m) {
    std::int16_t* row = rows.row(m);
    for (std::size_t c = 0; c < channels; ++c) {
      std::size_t block = m * channels + c;
      if (transposed) block = (m / per_group * channels + c) * per_group + m % per_group;
      for (std::size_t t = 0; t < taps; ++t) *row++ = static_cast<std::int16_t>(w.values[block * taps + t] - offset);
    }
  }
  return rows;
}

// What the output positions [begin, end) of one image and group read, less the offset: one row per position.
void fill_columns(const Taps& taps, const std::int8_t* x, std::size_t channels, int offset, std::size_t begin,
                  std::size_t end, ShortMatrix& columns) {
  const std::size_t count = taps.count();
  std::vector<std::int32_t> places((end - begin) * count);
  for (std::size_t p = begin; p < end; ++p) taps.read(p, places.data() + (p - begin) * count);
  for (std::size_t c = 0; c < channels; ++c, x += taps.plane()) {
    const std::int32_t* place = places.data();
    for (std::size_t row = 0; row < end - begin; ++row) {
      std::int16_t* column = columns.row(row) + c * count;
      for (std::size_t t = 0; t < count; ++t, ++place) {
        column[t] = *place < 0 ? std::int16_t{0} : static_cast<std::int16_t>(x[*place] - offset);
      }
    }
  }
}

}  // namespace

std::vector<ONNXTensorElementDataType> IntegerConvolution::input_types() {
  return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
}

IntegerConvolution::IntegerConvolution(const KernelInfo& info, bool transposed)
    : info_(info),
      offset_(activation_offset(info, 0)),
      weight_offset_(weight_offset(info)),
      transposed_(transposed),
      has_bias_(info.has_input(2)) {}

void IntegerConvolution::compute(const KernelContext& context) const {
  const auto x = context.input<std::int8_t>(0);
  const auto w = context.input<std::int8_t>(1);
  const ConvPlan plan = plan_convolution(info_.info(), transposed_, x.shape, w.shape);
  const auto outputs = static_cast<std::size_t>(plan.output[1]);
  Span<const std::int32_t> bias;
  if (has_bias_) bias = context.input<std::int32_t>(2).values;
  if (has_bias_ && bias.size != outputs) {
    throw OpError("input 'B' has " + std::to_string(bias.size) + " values, expected " + std::to_string(outputs) +
                  ", one per output channel. Export the model again.");
  }
  const Span<std::int32_t> y = context.output<std::int32_t>(0, plan.output);
  if (y.empty()) return;

  const Taps taps(plan, transposed_);
  const ShortMatrix weights = weight_rows(w, plan.group, transposed_, taps.count(), weight_offset_);
  const std::size_t channels = static_cast<std::size_t>(x.shape[1]) / plan.group, per_group = outputs / plan.group;
  constexpr std::size_t kBlockBytes = 1 << 17;  // columns of a block stay in the second-level cache
  const std::size_t positions = taps.positions();
  const std::size_t block = std::clamp<std::size_t>(kBlockBytes / (2 * weights.stride()), 8, 256);
  const std::size_t blocks = (positions + block - 1) / block;
  parallel_tasks(context, static_cast<std::size_t>(x.shape[0]) * plan.group * blocks, [&](std::size_t task) {
    const std::size_t begin = task % blocks * block, end = std::min(positions, begin + block);
    const std::size_t slice = task / blocks, first = slice % plan.group * per_group;  // slice: image and group
    ShortMatrix columns(end - begin, channels * taps.count());
    fill_columns(taps, x.values.data + slice * channels * taps.plane(), channels, offset_, begin, end, columns);
    std::int32_t* target = y.data + slice / plan.group * outputs * positions + begin;
    multiply(columns, weights, {0, end - begin, first, first + per_group}, bias.data, target, 1, positions);
  });
}

}  // namespace ort_quant
