#include "qpool_op.h"

#include <algorithm>
#include <string>

#include "attributes.h"
#include "finish.h"
#include "pool.h"
#include "qconv_op.h"

namespace ort_quant {
namespace {

constexpr std::size_t kDeq = 1, kChannelConstants = 2;

// ONNX Runtime's pools refuse the same.
void check_pads(const Window& window) {
  for (std::size_t axis = 0; axis < kMaxSpatialRank; ++axis) {
    const std::int64_t pad = std::max(window.pads_begin[axis], window.pads_end[axis]);
    if (pad < window.extent(axis)) continue;
    refuse_attribute("pads", std::to_string(pad) + " on one axis",
                     "less than the " + std::to_string(window.extent(axis)) + " positions that the kernel covers there",
                     kCorrectModel);
  }
}

WindowGeometry to_window_geometry(const Window& window, const Placement& placement, const Shape& x) {
  WindowGeometry geometry{};
  geometry.rank = kMaxSpatialRank;
  geometry.batch = static_cast<std::size_t>(x[0]);
  geometry.channels = static_cast<std::size_t>(x.back());
  std::copy(placement.in.begin(), placement.in.end(), geometry.in);
  std::copy(placement.out.begin(), placement.out.end(), geometry.out);
  std::copy(window.kernel.begin(), window.kernel.end(), geometry.kernel);
  std::copy(window.strides.begin(), window.strides.end(), geometry.strides);
  std::copy(window.dilations.begin(), window.dilations.end(), geometry.dilations);
  std::copy(placement.pads_begin.begin(), placement.pads_begin.end(), geometry.pads_begin);
  return geometry;
}

}  // namespace

std::vector<ONNXTensorElementDataType> QPool::input_types() {
  constexpr auto kFloat = ElementType<float>::value;
  return {ElementType<std::uint8_t>::value, kFloat, kFloat, kFloat, kFloat};
}

QPool::Mode QPool::read_mode(const KernelInfo& info) {
  const std::string mode = info.attribute("mode", std::string());
  if (mode == "max") return Mode::kMax;
  if (mode == "average") return Mode::kAverage;
  if (mode == "global_average") return Mode::kGlobalAverage;
  refuse_attribute("mode", '"' + mode + '"', "max, average or global_average", kCorrectModel);
}

QPool::QPool(const KernelInfo& info, const KernelTable& kernels) : mode_(read_mode(info)), kernels_(kernels) {
  if (mode_ != Mode::kGlobalAverage) {
    window_ = read_window(info, nullptr);
    check_pads(window_);
    ceil_mode_ = read_int(info, "ceil_mode", 0, 0, 1, kCorrectModel) != 0;
    count_include_pad_ = read_int(info, "count_include_pad", 0, 0, 1, kCorrectModel) != 0;
  }
  if (mode_ != Mode::kMax) {
    read_averaging(info);
  } else if (!info.has_output(0) || info.has_output(1) || info.has_output(2)) {
    throw OpError("output 'y' is left out or outputs 'y_float' or 'y2' are connected, expected only 'y', because mode "
                  "is \"max\". Dequantize with DequantizeLayout.");
  }
}

void QPool::read_averaging(const KernelInfo& info) {
  if (!info.has_input(kDeq)) {
    throw OpError("input 'deq' is missing, expected float [1], the scale of the result. Connect an initializer.");
  }
  deq_ = read_deq(info, kDeq, 1)[0];
  x_offset_ = read_code_offset(info, "x_offset");
  outputs_.emplace(info, kChannelConstants, 0);
}

void QPool::compute(const KernelContext& context) const {
  switch (mode_) {
    case Mode::kMax:
      return compute_max(context);
    case Mode::kAverage:
      return compute_average(context);
    case Mode::kGlobalAverage:
      return compute_global_average(context);
  }
}

void QPool::compute_max(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  const Placement placement = place(window_, spatial_sizes(x.shape, window_.rank), ceil_mode_);
  const Shape shape = output_shape(x.shape[0], placement, window_.rank, x.shape.back());
  const std::size_t count = checked_count(shape, "the output");
  const auto y = context.output<std::uint8_t>(0, shape);
  if (count == 0) return;
  max_pool(to_window_geometry(window_, placement, x.shape), x.values.data, y.data, kernels_, context.for_each());
}

void QPool::compute_average(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  const Placement placement = place(window_, spatial_sizes(x.shape, window_.rank), ceil_mode_);
  const Shape shape = output_shape(x.shape[0], placement, window_.rank, x.shape.back());
  const OutputTensors tensors = outputs_->make(context, shape);
  if (element_count(shape) == 0) return;
  AverageParams params{x_offset_, deq_, count_include_pad_, {0, 0, 0}};
  std::copy(placement.pads_end.begin(), placement.pads_end.end(), params.pads_end);
  LayerFinish finish(outputs_->epilogue(), outputs_->spec(), tensors, kernels_);
  average_pool(to_window_geometry(window_, placement, x.shape), params, x.values.data, finish.output(), kernels_,
               context.for_each());
}

void QPool::compute_global_average(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  if (x.shape.size() < 3) {
    throw OpError("input 'x' has shape " + to_string(x.shape) +
                  ", expected [N, spatial sizes, C]. Check the layout: activations are channels last here.");
  }
  const std::size_t count = checked_count(x.shape, "input 'x'");
  Shape shape(x.shape.size(), 1);
  shape.front() = x.shape.front();
  shape.back() = x.shape.back();
  const std::size_t results = checked_count(shape, "the output");
  if (results > 0 && count == 0) {
    throw OpError("input 'x' has shape " + to_string(x.shape) +
                  ", expected spatial sizes of at least 1. Feed larger inputs.");
  }
  const OutputTensors tensors = outputs_->make(context, shape);
  if (count == 0) return;
  LayerFinish finish(outputs_->epilogue(), outputs_->spec(), tensors, kernels_);
  const auto batch = static_cast<std::size_t>(shape.front());
  const GlobalPoolShape pool{batch, count / results, results / batch};
  global_average_pool(pool, x_offset_, deq_, x.values.data, finish.output(), kernels_, context.for_each());
}

}  // namespace ort_quant
