// Overrides of AveragePool and Pad.
#pragma once

#include <optional>
#include <vector>

#include "deploy_op.h"
#include "native_op.h"
#include "offset_table.h"
#include "sliding_window.h"

namespace ort_quant {

// The shape of AveragePool's result.
Shape average_pool_shape(const KernelInfo& info, const Shape& x);

class AveragePoolBase {
 public:
  static constexpr const char* kName = "AveragePool";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 1;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = 8;
};

inline NativeAttributes average_pool_attributes() {
  return {{{"ceil_mode", 0}, {"count_include_pad", 0}},
          {},
          {{"auto_pad", "NOTSET"}},
          {"dilations", "kernel_shape", "pads", "strides"}};
}

// Gaps in the window came with opset 19; everything else is alike in all versions.
inline int average_pool_version(const KernelInfo& info) { return info.optional_ints("dilations") ? 19 : 11; }

// The mean of the integers q − offset as float32, computed by ONNX Runtime's float kernel: so it has the bits of the
// fake-quant model.
class IntegerAveragePool : public AveragePoolBase {
 public:
  static std::vector<ONNXTensorElementDataType> input_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT}; }

  IntegerAveragePool(const KernelInfo& info, const KernelTable&);
  void compute(const KernelContext& context) const;

 private:
  KeptInfo info_;
  int offset_;
  NativeOp native_;
};

template <ONNXTensorElementDataType kType>
class NativeAveragePool : public AveragePoolBase {
 public:
  static std::vector<ONNXTensorElementDataType> input_types() { return {kType}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {kType}; }

  NativeAveragePool(const KernelInfo& info, const KernelTable&)
      : info_(info), native_(info, kName, average_pool_version(info), average_pool_attributes()) {}

  void compute(const KernelContext& context) const {
    native_.run(context, average_pool_shape(info_.info(), context.input<char>(0).shape));
  }

 private:
  KeptInfo info_;
  Delegate<kType> native_;
};

// Pad moves values, whatever they mean, so this serves every type and every version of the operator: attributes up to
// opset 10, inputs from 11, axes from 18. One thing is special: zeros around a quantized int8 tensor are real zeros.
class PadBase {
 public:
  static constexpr const char* kName = "Pad";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 1;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = 3;

  explicit PadBase(const KernelInfo& info);

 protected:
  // `fill` is one element; null for the value that the node states, or zero.
  void pad(const KernelContext& context, std::size_t element_size, const void* fill) const;

  bool has_value_;
  bool has_axes_;

 private:
  void read_pads(const KernelContext& context, const Shape& x, std::vector<std::int64_t>& pads) const;

  std::string mode_;
  std::optional<std::vector<std::int64_t>> pads_attribute_;
  float value_attribute_;
};

template <ONNXTensorElementDataType kType, std::size_t kSize>
class NativePad : public PadBase {
 public:
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {kType, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, kType, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {kType}; }

  NativePad(const KernelInfo& info, const KernelTable&) : PadBase(info) {}
  void compute(const KernelContext& context) const { pad(context, kSize, nullptr); }
};

class IntegerPad : public PadBase {
 public:
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
            ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8}; }

  IntegerPad(const KernelInfo& info, const KernelTable&);
  void compute(const KernelContext& context) const;

 private:
  std::optional<int> offset_;
  std::optional<ProvidedOffset> provided_;
};

}  // namespace ort_quant
