// AscendDequant, its legacy form Dequant, and AscendAntiQuant.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "attributes.h"
#include "custom_op.h"
#include "deq_scale.h"
#include "kernel_overloads.h"
#include "ort.h"

namespace ort_quant {

// A tensor seen as [outer][channels][inner] around the channel axis.
struct ChannelView {
  std::size_t outer;
  std::size_t channels;
  std::size_t inner;
};

// `axis` counts from the back when negative; a tensor of one dimension has only axis 0. With one scale the tensor is
// a single channel. OpError if `scales` is 0, or neither 1 nor the channel count.
ChannelView channel_view(const Shape& shape, std::int64_t axis, std::size_t scales, const char* input_name);

// OpError for a scale that is not finite or a shift outside [0, 16].
DeqScale checked_deq_scale(DeqScale value, std::size_t channel);

// The packed input, checked; float16 arithmetic uses truncated scales.
std::vector<DeqScale> unpack_deq_scales(Span<const std::uint64_t> packed, bool half_precision);

bool has_shift(const std::vector<DeqScale>& scales);

// The legacy inputs, each of 1 or `channels` values, as one scale per channel.
std::vector<DeqScale> join_deq_scale(Span<const float> shift, Span<const float> scale, std::size_t channels);

// clip_mode: 16 (true) or 32.
bool read_clip16(const KernelInfo& info);

// y = clip(N == 0 ? x : floor(x/2^N))·s·2^N per channel; 16-bit clipping if `clip16`.
template <class In, class Out>
void dequantize_channels(const KernelContext& context, const KernelTable& kernels, const In* x, Out* y,
                         const ChannelView& view, const std::vector<DeqScale>& scales, bool clip16,
                         bool half_precision) {
  if (view.outer * view.channels * view.inner == 0) return;
  const float lowest = clip16 ? -32768.0f : -0x1p31f;
  const float highest = clip16 ? 32767.0f : 0x1p31f;  // float32's nearest to 2^31 − 1
  const auto params = [&](const DeqScale& s) {
    const auto step = static_cast<float>(std::uint32_t{1} << s.shift);
    return DequantizeParams{s.scale, step, 1.0f / step, lowest, highest, s.shift != 0, half_precision};
  };
  constexpr std::size_t kBlock = 16384;
  if (view.channels == 1) {
    return parallel_blocks(context, view.outer * view.inner, [&](std::size_t begin, std::size_t size) {
      dequantize(kernels, x + begin, y + begin, size, params(scales[0]));
    });
  }
  if (view.inner == 1 && !clip16) {
    std::vector<float> factors;
    for (const DeqScale& s : scales) factors.push_back(s.scale);
    const std::size_t rows_per_block = std::max<std::size_t>(kBlock / view.channels, 1);
    return context.parallel_for((view.outer + rows_per_block - 1) / rows_per_block, [&](std::size_t block) {
      const std::size_t end = std::min(view.outer, (block + 1) * rows_per_block);
      for (std::size_t row = block * rows_per_block; row < end; ++row) {
        const std::size_t begin = row * view.channels;
        dequantize_each(kernels, x + begin, y + begin, view.channels, factors.data(), params({1.0f, 0}));
      }
    });
  }
  const std::size_t runs = view.outer * view.channels;
  const std::size_t runs_per_block = std::max<std::size_t>(kBlock / view.inner, 1);
  context.parallel_for((runs + runs_per_block - 1) / runs_per_block, [&](std::size_t block) {
    const std::size_t end = std::min(runs, (block + 1) * runs_per_block);
    for (std::size_t run = block * runs_per_block; run < end; ++run) {
      const std::size_t begin = run * view.inner;
      dequantize(kernels, x + begin, y + begin, view.inner, params(scales[run % view.channels]));
    }
  });
}

// Inputs x and the packed UINT64[1 or C]; attributes fakequant_precision_mode and, beyond AMCT's, axis (1).
template <class In, class Out>
class AscendDequant {
 public:
  static constexpr const char* kName = "AscendDequant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ElementType<In>::value, ElementType<std::uint64_t>::value};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<Out>::value}; }

  AscendDequant(const KernelInfo& info, const KernelTable& kernels)
      : axis_(info.attribute("axis", std::int64_t{1})),
        half_precision_(read_half_precision(info)),
        kernels_(kernels) {}

  void compute(const KernelContext& context) const {
    const Tensor<const In> x = context.input<In>(0);
    const Tensor<const std::uint64_t> packed = context.input<std::uint64_t>(1);
    const ChannelView view = channel_view(x.shape, axis_, packed.values.size, "deq_scale");
    const std::vector<DeqScale> scales = unpack_deq_scales(packed.values, half_precision_);
    const bool any_shift = has_shift(scales);
    const Span<Out> y = context.output<Out>(0, x.shape);
    dequantize_channels(context, kernels_, x.values.data, y.data, view, scales, any_shift, half_precision_);
  }

 private:
  std::int64_t axis_;
  bool half_precision_;
  const KernelTable& kernels_;
};

// Inputs x, shift FLOAT[1 or C], deq_scale FLOAT[1 or C]; attributes clip_mode 16 or 32 (32), axis (1).
template <class T>
class Dequant {
 public:
  static constexpr const char* kName = "Dequant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ElementType<T>::value, ElementType<float>::value, ElementType<float>::value};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<T>::value}; }

  Dequant(const KernelInfo& info, const KernelTable& kernels)
      : axis_(info.attribute("axis", std::int64_t{1})), clip16_(read_clip16(info)), kernels_(kernels) {}

  void compute(const KernelContext& context) const {
    const Tensor<const T> x = context.input<T>(0);
    const Tensor<const float> shift = context.input<float>(1);
    const Tensor<const float> scale = context.input<float>(2);
    const ChannelView view = channel_view(x.shape, axis_, std::max(shift.values.size, scale.values.size), "deq_scale");
    const std::vector<DeqScale> scales = join_deq_scale(shift.values, scale.values, view.channels);
    const Span<T> y = context.output<T>(0, x.shape);
    dequantize_channels(context, kernels_, x.values.data, y.data, view, scales, clip16_, false);
  }

 private:
  std::int64_t axis_;
  bool clip16_;
  const KernelTable& kernels_;
};

// y = x·scale, scale = scale_d.
template <class In, class Out>
class AscendAntiQuant {
 public:
  static constexpr const char* kName = "AscendAntiQuant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  static std::vector<ONNXTensorElementDataType> input_types() { return {ElementType<In>::value}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<Out>::value}; }

  AscendAntiQuant(const KernelInfo& info, const KernelTable& kernels)
      : scale_(read_scale(info, "scale_d")), kernels_(kernels) {}

  void compute(const KernelContext& context) const {
    const Tensor<const In> x = context.input<In>(0);
    const Span<Out> y = context.output<Out>(0, x.shape);
    parallel_blocks(context, x.values.size, [&](std::size_t begin, std::size_t size) {
      scale_values(kernels_, x.values.data + begin, y.data + begin, size, scale_);
    });
  }

 private:
  float scale_;
  const KernelTable& kernels_;
};

}  // namespace ort_quant
