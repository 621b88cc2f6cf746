#include "qlayout_op.h"

#include <algorithm>
#include <string>

#include "attributes.h"
#include "quantized_outputs.h"
#include "sliding_window.h"

namespace ort_quant {
namespace {

// Of a tensor of `count` elements whose channels are dimension `axis`.
Planes planes_of(const Shape& shape, std::size_t axis, std::size_t count) {
  if (shape.size() < 3) {
    throw OpError("input 'x' has shape " + to_string(shape) + " and attribute 'layout' is \"channels_first\", expected "
                  "at least three dimensions. Set layout to \"same\", or give x its spatial dimensions.");
  }
  if (count == 0) return {0, 0, 0};
  const auto batch = static_cast<std::size_t>(shape[0]);
  const auto channels = static_cast<std::size_t>(shape[axis]);
  return {batch, channels, count / (batch * channels)};
}

}  // namespace

LayoutSettings::LayoutSettings(const KernelInfo& info, const char* meaning_of_scale)
    : scale(read_scale(info, meaning_of_scale)), offset(read_code_offset(info, "offset")) {
  const std::string layout = info.attribute("layout", std::string("channels_first"));
  if (layout != "channels_first" && layout != "same") {
    refuse_attribute("layout", '"' + layout + '"', "channels_first or same", kCorrectModel);
  }
  channels_first = layout == "channels_first";
}

void QuantizeLayout::compute(const KernelContext& context) const {
  const auto x = context.input<float>(0);
  const std::size_t count = checked_count(x.shape, "input 'x'");
  const ByteQuantizer quantizer{settings_.scale, settings_.offset};
  if (!settings_.channels_first) {
    const auto y = context.output<std::uint8_t>(0, x.shape);
    if (count > 0) quantize_values(x.values.data, y.data, count, quantizer, kernels_, context.for_each());
    return;
  }
  const Planes planes = planes_of(x.shape, 1, count);
  Shape shape = x.shape;
  std::rotate(shape.begin() + 1, shape.begin() + 2, shape.end());
  const auto y = context.output<std::uint8_t>(0, shape);
  if (count > 0) quantize_planes(x.values.data, y.data, planes, quantizer, kernels_, context.for_each());
}

void DequantizeLayout::compute(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  const std::size_t count = checked_count(x.shape, "input 'x'");
  const ByteDequantizer dequantizer{settings_.scale, settings_.offset};
  if (!settings_.channels_first) {
    const auto y = context.output<float>(0, x.shape);
    if (count > 0) dequantize_values(x.values.data, y.data, count, dequantizer, kernels_, context.for_each());
    return;
  }
  const Planes planes = planes_of(x.shape, x.shape.size() - 1, count);
  Shape shape = x.shape;
  std::rotate(shape.begin() + 1, shape.end() - 1, shape.end());
  const auto y = context.output<float>(0, shape);
  if (count > 0) dequantize_planes(x.values.data, y.data, planes, dequantizer, kernels_, context.for_each());
}

}  // namespace ort_quant
