// ONNX Runtime's own kernels, called from ours: an override of a standard operator must do to float tensors what the
// operator does.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "ort.h"

namespace ort_quant {

// The attributes of an operator. Those that the node has are handed on, and the defaults of the others: a kernel outside
// of a graph learns no defaults.
struct NativeAttributes {
  std::vector<std::pair<const char*, std::int64_t>> ints;
  std::vector<std::pair<const char*, float>> floats;
  std::vector<std::pair<const char*, const char*>> strings;
  std::vector<const char*> lists;  // of INTS
};

// A float32 tensor of our own.
class FloatTensor {
 public:
  FloatTensor(const OrtApi& api, Shape shape);
  FloatTensor(FloatTensor&&) = default;

  const OrtValue* value() const { return value_.get(); }
  OrtValue* value() { return value_.get(); }
  std::vector<float>& floats() { return floats_; }

 private:
  std::vector<float> floats_;
  std::unique_ptr<OrtValue, std::function<void(OrtValue*)>> value_;
};

// A kernel of ONNX Runtime with the attributes of the node that asks for it.
class NativeOp {
 public:
  // `type` is that of the operator's constraint "T". OpError if ONNX Runtime has no such kernel.
  NativeOp(const KernelInfo& info, const char* op, int version, ONNXTensorElementDataType type, std::size_t inputs,
           const NativeAttributes& attributes);

  // `output` must have the shape that the operator computes: ONNX Runtime does not check it.
  void run(const KernelContext& context, const std::vector<const OrtValue*>& inputs, OrtValue* output) const;

 private:
  std::unique_ptr<OrtOp, std::function<void(OrtOp*)>> op_;
};

// The operator of our node for other types than int8: ONNX Runtime's kernel; for float16 the float32 kernel between two
// conversions, which is what ONNX Runtime itself does with an operator that has no float16 kernel.
template <ONNXTensorElementDataType kType>
class Delegate {
 public:
  Delegate(const KernelInfo& info, const char* op, int version, const NativeAttributes& attributes)
      : inputs_(leading_inputs(info)),
        native_(info, op, version, kHalf ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : kType, inputs_, attributes) {}

  void run(const KernelContext& context, const Shape& output) const {
    OrtValue* y = nullptr;
    check(context.api(), ort_abi::KernelContext_GetOutput::call(context.api(), context.handle(), 0, output.data(),
                                                                output.size(), &y));
    if (element_count(output) == 0) return;
    std::vector<const OrtValue*> inputs(inputs_);
    if constexpr (kHalf) {
      run_in_float(context, inputs, output);
    } else {
      for (std::size_t i = 0; i < inputs_; ++i) {
        check(context.api(), ort_abi::KernelContext_GetInput::call(context.api(), context.handle(), i, &inputs[i]));
      }
      native_.run(context, inputs, y);
    }
  }

 private:
  static constexpr bool kHalf = kType == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;

  // Inputs up to the first that is left out: an operator that is overridden here has none behind it.
  static std::size_t leading_inputs(const KernelInfo& info) {
    std::size_t count = 0;
    while (info.has_input(count)) ++count;
    return count;
  }

  void run_in_float(const KernelContext& context, std::vector<const OrtValue*>& inputs, const Shape& output) const {
    std::vector<FloatTensor> tensors;
    for (std::size_t i = 0; i < inputs_; ++i) {
      const Tensor<const Half> x = context.input<Half>(i);
      tensors.emplace_back(context.api(), x.shape);
      for (std::size_t k = 0; k < x.values.size; ++k) tensors.back().floats()[k] = half_to_float(x.values[k]);
    }
    for (std::size_t i = 0; i < inputs_; ++i) inputs[i] = tensors[i].value();
    FloatTensor result(context.api(), output);
    native_.run(context, inputs, result.value());
    const Span<Half> y = context.output<Half>(0, output);
    for (std::size_t k = 0; k < y.size; ++k) y[k] = float_to_half(result.floats()[k]);
  }

  std::size_t inputs_;
  NativeOp native_;
};

}  // namespace ort_quant
