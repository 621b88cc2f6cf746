#include "qconv.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "depthwise.h"
#include "finish.h"
#include "qconv_layer.h"

namespace ort_quant {
namespace {

bool is_depthwise(const ConvShape& shape, Span<const float> deq) {
  return !shape.transposed && shape.group > 1 && shape.group == shape.channels_in &&
         shape.group == shape.channels_out &&
         std::all_of(deq.begin(), deq.end(), [](float value) { return std::isfinite(value); });
}

template <class Dimensions, class T>
void copy_dimensions(const Dimensions& from, T (&to)[3]) {
  std::transform(from.begin(), from.end(), to, [](auto value) { return static_cast<T>(value); });
}

DepthwiseParams depthwise_params(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
                                 Span<const std::int32_t> bias, std::int32_t x_offset) {
  DepthwiseParams params{3, shape.channels_in, {}, {}, {}, weights, deq, bias, x_offset};
  copy_dimensions(shape.kernel, params.kernel);
  copy_dimensions(shape.strides, params.strides);
  copy_dimensions(shape.dilations, params.dilations);
  return params;
}

WindowGeometry window_of(const ConvShape& shape, const ConvGeometry& geometry) {
  WindowGeometry window{3, geometry.batch, shape.channels_in, {}, {}, {}, {}, {}, {}};
  copy_dimensions(geometry.in, window.in);
  copy_dimensions(geometry.out, window.out);
  copy_dimensions(shape.kernel, window.kernel);
  copy_dimensions(shape.strides, window.strides);
  copy_dimensions(shape.dilations, window.dilations);
  copy_dimensions(geometry.pads_begin, window.pads_begin);
  return window;
}

}  // namespace

struct PackedConv::State {
  ConvShape shape;
  Epilogue epilogue;
  OutputSpec outputs;
  const KernelTable& kernels;
  std::optional<PackedDepthwise> depthwise;  // one of the two
  std::optional<ConvLayer> layer;
};

PackedConv::PackedConv(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
                       Span<const std::int32_t> bias, std::int32_t x_offset, Epilogue epilogue,
                       const OutputSpec& outputs, const KernelTable& kernels) {
  std::unique_ptr<State> state(new State{shape, std::move(epilogue), outputs, kernels, std::nullopt, std::nullopt});
  if (is_depthwise(shape, deq)) {
    state->depthwise.emplace(depthwise_params(shape, weights, deq, bias, x_offset), kernels);
  } else {
    state->layer.emplace(shape, weights, deq, bias, x_offset, state->epilogue, outputs, kernels);
  }
  state_ = std::move(state);
}

PackedConv::PackedConv(PackedConv&&) noexcept = default;
PackedConv& PackedConv::operator=(PackedConv&&) noexcept = default;
PackedConv::~PackedConv() = default;

const ConvShape& PackedConv::shape() const { return state_->shape; }

void PackedConv::run(const ConvGeometry& geometry, const std::uint8_t* x, OutputTensors outputs,
                     const ForEach& for_each) const {
  outputs.channels = state_->shape.channels_out;
  outputs.plane = geometry.out[0] * geometry.out[1] * geometry.out[2];
  if (state_->depthwise) {
    LayerFinish finish(state_->epilogue, state_->outputs, outputs, state_->kernels);
    state_->depthwise->run(window_of(state_->shape, geometry), x, finish.output(), for_each);
  } else {
    state_->layer->run(geometry, x, finish_program(state_->epilogue, state_->outputs), outputs, for_each);
  }
}

}  // namespace ort_quant
