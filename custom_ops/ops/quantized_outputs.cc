#include "quantized_outputs.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "attributes.h"
#include "sliding_window.h"

namespace ort_quant {

std::int32_t read_code_offset(const KernelInfo& info, const char* name) {
  return static_cast<std::int32_t>(read_int(info, name, 0, -128, 127, kCorrectModel));
}

QuantizedOutputs::QuantizedOutputs(const KernelInfo& info, std::size_t first_input, std::size_t channels,
                                   bool has_planes)
    : first_input_(first_input), first_residual_(info.input_number(first_input + 1)) {
  read_outputs(info, has_planes);
  read_epilogue(info, channels);
}

std::vector<ONNXTensorElementDataType> QuantizedOutputs::output_types() {
  return {ElementType<std::uint8_t>::value, ElementType<float>::value, ElementType<std::uint8_t>::value};
}

void QuantizedOutputs::read_outputs(const KernelInfo& info, bool has_planes) {
  if (info.has_output(0)) {
    spec_.y = Quantizer{read_scale(info, "1/scale_d", "y_scale"), read_code_offset(info, "y_offset")};
  }
  if (info.has_output(2)) {
    spec_.y2 = Quantizer{read_scale(info, "1/scale_d", "y2_scale"), read_code_offset(info, "y2_offset")};
  }
  spec_.y_float = info.has_output(1);
  if (!spec_.y && !spec_.y2 && !spec_.y_float) {
    throw OpError("outputs 'y', 'y_float' and 'y2' are all left out, expected at least one. Connect one, or remove the "
                  "node.");
  }
  const std::string layout = info.attribute("float_layout", std::string("channels_last"));
  if (layout != "channels_last" && layout != "channels_first") {
    refuse_attribute("float_layout", '"' + layout + '"', "channels_last or channels_first", kCorrectModel);
  }
  if (has_planes && layout == "channels_first") spec_.float_layout = FloatLayout::kChannelsFirst;
}

void QuantizedOutputs::read_epilogue(const KernelInfo& info, std::size_t channels) {
  std::vector<float> constants;
  if (info.has_input(first_input_)) {
    const auto tensor = info.constant_input<float>(first_input_, "channel_constants");
    if (tensor.shape.size() != 2 || tensor.values.empty() ||
        (channels != 0 && static_cast<std::size_t>(tensor.shape[1]) != channels)) {
      throw OpError("input 'channel_constants' has shape " + to_string(tensor.shape) + ", expected [rows, " +
                    (channels != 0 ? std::to_string(channels) : std::string("channels")) +
                    "]. Give one row per operand c0, c1, …");
    }
    constant_channels_ = static_cast<std::size_t>(tensor.shape[1]);
    constants.assign(tensor.values.begin(), tensor.values.end());
  }
  const std::string text = info.attribute("epilogue", std::string());
  try {
    epilogue_ = Epilogue::parse(text, std::move(constants), constant_channels_);
  } catch (const std::invalid_argument& error) {
    refuse_attribute("epilogue", '"' + text + '"', std::string("steps as documented: ") + error.what(), kCorrectModel);
  }
  for (std::size_t i = 0; i < epilogue_.residuals(); ++i) {
    if (info.has_input(first_input_ + 1 + i)) continue;
    const std::string name = "r" + std::to_string(i);
    throw OpError("input '" + name + "' is missing, but attribute 'epilogue' is \"" + text +
                  "\", expected the tensor that it reads. Connect it or correct the epilogue.");
  }
}

Shape QuantizedOutputs::float_shape(const Shape& shape) const {
  if (spec_.float_layout == FloatLayout::kChannelsLast || shape.size() < 3) return shape;
  Shape turned = shape;
  std::rotate(turned.begin() + 1, turned.end() - 1, turned.end());
  return turned;
}

OutputTensors QuantizedOutputs::make(const KernelContext& context, const Shape& shape) const {
  const std::size_t count = checked_count(shape, "the output");
  OutputTensors tensors;
  tensors.channels = shape.empty() ? 1 : static_cast<std::size_t>(shape.back());
  const std::size_t rows = shape.size() < 3 ? 1 : static_cast<std::size_t>(shape[0]) * tensors.channels;
  tensors.plane = shape.size() < 3 || rows == 0 ? 1 : count / rows;
  if (constant_channels_ != 0 && constant_channels_ != tensors.channels) {
    throw OpError("input 'channel_constants' has " + std::to_string(constant_channels_) +
                  " channels, expected as many as the output " + to_string(shape) + ". Correct one of the two.");
  }
  for (std::size_t i = 0; i < epilogue_.residuals(); ++i) {
    const auto residual = context.input<float>(first_residual_ + i);
    if (residual.shape != shape) {
      throw OpError("input 'r" + std::to_string(i) + "' has shape " + to_string(residual.shape) + ", expected " +
                    to_string(shape) + ", that of the output (channels last). Transpose or correct it.");
    }
    tensors.residuals[i] = residual.values.data;
  }
  if (spec_.y) tensors.y = context.output<std::uint8_t>(0, shape).data;
  if (spec_.y_float) tensors.y_float = context.output<float>(1, float_shape(shape)).data;
  if (spec_.y2) tensors.y2 = context.output<std::uint8_t>(2, shape).data;
  return tensors;
}

}  // namespace ort_quant
