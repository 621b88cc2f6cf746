// The Ascend operators of a deploy model, in the default domain.
#pragma once

#include <vector>

#include "deploy_op.h"
#include "dequantize_ops.h"
#include "kernel_overloads.h"
#include "offset_table.h"

namespace ort_quant {

// Attributes of AscendQuant in a deploy model: scale (1/scale_d), offset, sqrt_mode (scale applies twice), dst_type
// (text or GE's number), round_mode ("Round").
struct DeployQuantizer {
  QuantizeParams params;
  bool twice;
};

DeployQuantizer read_deploy_quantizer(const KernelInfo& info);

// BOOL attribute, which ONNX stores as INT.
bool read_flag(const KernelInfo& info, const char* name);

// dtype 0, float32. OpError for float16: the type of an output cannot hang on an attribute here.
void require_float_output(const KernelInfo& info);

template <class In>
class DeployQuant {
 public:
  static constexpr const char* kName = "AscendQuant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static constexpr int kStartVersion = 1;
  static std::vector<ONNXTensorElementDataType> input_types() { return {ElementType<In>::value}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8}; }

  DeployQuant(const KernelInfo& info, const KernelTable& kernels)
      : quantizer_(read_deploy_quantizer(info)),
        kernels_(kernels),
        provided_(info, static_cast<int>(quantizer_.params.offset)) {}

  void compute(const KernelContext& context) const {
    const Tensor<const In> x = context.input<In>(0);
    const Span<std::int8_t> y = context.output<std::int8_t>(0, x.shape);
    std::vector<In> scaled(quantizer_.twice ? x.values.size : 0);
    parallel_blocks(context, x.values.size, [&](std::size_t begin, std::size_t size) {
      const In* source = x.values.data + begin;
      if (quantizer_.twice) {
        scale_values(kernels_, source, scaled.data() + begin, size, quantizer_.params.scale);
        source = scaled.data() + begin;
      }
      quantize(kernels_, source, y.data + begin, size, quantizer_.params);
    });
  }

 private:
  DeployQuantizer quantizer_;
  const KernelTable& kernels_;
  ProvidedOffset provided_;
};

// y = x·deq_scale of int32 sums, or of AveragePool's float32 means.
template <class In>
class DeployDequant {
 public:
  static constexpr const char* kName = "AscendDequant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static constexpr int kStartVersion = 1;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ElementType<In>::value, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT}; }

  DeployDequant(const KernelInfo& info, const KernelTable& kernels)
      : axis_(info.attribute("axis", std::int64_t{1})),
        half_precision_(read_half_precision(info)),
        twice_(read_flag(info, "sqrt_mode")),
        relu_(read_flag(info, "relu_flag")),
        kernels_(kernels) {
    require_float_output(info);
  }

  void compute(const KernelContext& context) const {
    const Tensor<const In> x = context.input<In>(0);
    const Tensor<const std::uint64_t> packed = context.input<std::uint64_t>(1);
    const ChannelView view = channel_view(x.shape, axis_, packed.values.size, "deq_scale");
    const std::vector<DeqScale> scales = unpack_deq_scales(packed.values, half_precision_);
    const bool any_shift = has_shift(scales);
    if (twice_ && any_shift) {
      throw OpError("sqrt_mode is set, but input 'deq_scale' holds shifts, expected none. Export the model again.");
    }
    const Span<float> y = context.output<float>(0, x.shape);
    parallel_blocks(context, y.size, [&](std::size_t begin, std::size_t size) {
      for (std::size_t i = begin; i < begin + size; ++i) y[i] = static_cast<float>(x.values[i]);
    });
    dequantize_channels<float, float>(context, kernels_, y.data, y.data, view, scales, any_shift, half_precision_);
    for (std::size_t run = 0; twice_ && run < view.outer * view.channels; ++run) {
      scale_values(kernels_, y.data + run * view.inner, y.data + run * view.inner, view.inner,
                   scales[run % view.channels].scale);
    }
    if (!relu_) return;
    parallel_blocks(context, y.size, [&](std::size_t begin, std::size_t size) {
      for (std::size_t i = begin; i < begin + size; ++i) y[i] = y[i] > 0 ? y[i] : 0.0f;
    });
  }

 private:
  std::int64_t axis_;
  bool half_precision_;
  bool twice_;
  bool relu_;
  const KernelTable& kernels_;
};

// y = (q − offset)·scale with the offset of the quantizer in front. The attribute `offset` is the negative of it (the
// NPU adds), or the same (some writers).
class DeployAntiQuant {
 public:
  static constexpr const char* kName = "AscendAntiQuant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static constexpr int kStartVersion = 1;
  static std::vector<ONNXTensorElementDataType> input_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT}; }

  DeployAntiQuant(const KernelInfo& info, const KernelTable&);
  void compute(const KernelContext& context) const;

 private:
  float scale_;
  int offset_;
  bool twice_;
};

// int8 weights as they are; `offset` must be zero.
class DeployWeightQuant {
 public:
  static constexpr const char* kName = "AscendWeightQuant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static constexpr int kStartVersion = 1;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8}; }

  DeployWeightQuant(const KernelInfo& info, const KernelTable&) : provided_(info, 0) {}
  void compute(const KernelContext& context) const;

 private:
  ProvidedOffset provided_;
};

}  // namespace ort_quant
