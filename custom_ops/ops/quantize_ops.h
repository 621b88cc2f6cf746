// AscendQuant and its legacy form Quant.
#pragma once

#include <vector>

#include "custom_op.h"
#include "kernel_overloads.h"
#include "ort.h"

namespace ort_quant {

// scale = 1/scale_d (required), offset (0), dst_type (INT8), fakequant_precision_mode (DEFAULT).
QuantizeParams read_ascend_quant(const KernelInfo& info, bool int8_output);

// scale = 1/scale_d (required), offset INT (0), quant_bit INT (8).
QuantizeParams read_quant(const KernelInfo& info);

// Float output: clip(rint(x·scale) + offset, qmin, qmax) − offset. int8 output: the same without "− offset".
template <class In, class Out>
class QuantizeKernel {
 public:
  static std::vector<ONNXTensorElementDataType> input_types() { return {ElementType<In>::value}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<Out>::value}; }

  QuantizeKernel(const QuantizeParams& params, const KernelTable& kernels) : params_(params), kernels_(kernels) {}

  void compute(const KernelContext& context) const {
    const Tensor<const In> x = context.input<In>(0);
    const Span<Out> y = context.output<Out>(0, x.shape);
    parallel_blocks(context, x.values.size, [&](std::size_t begin, std::size_t size) {
      quantize(kernels_, x.values.data + begin, y.data + begin, size, params_);
    });
  }

 private:
  QuantizeParams params_;
  const KernelTable& kernels_;
};

template <class In, class Out>
struct AscendQuant : QuantizeKernel<In, Out> {
  static constexpr const char* kName = "AscendQuant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  AscendQuant(const KernelInfo& info, const KernelTable& kernels)
      : QuantizeKernel<In, Out>(read_ascend_quant(info, sizeof(Out) == 1), kernels) {}
};

template <class T>
struct Quant : QuantizeKernel<T, T> {
  static constexpr const char* kName = "Quant";
  static constexpr OutputShape kOutputShape = OutputShape::kSameAsInput;
  Quant(const KernelInfo& info, const KernelTable& kernels) : QuantizeKernel<T, T>(read_quant(info), kernels) {}
};

}  // namespace ort_quant
