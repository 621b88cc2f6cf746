// Overrides of Gemm and MatMul: int8 with 32-bit sums; other types by ONNX Runtime's kernels.
#pragma once

#include <optional>
#include <vector>

#include "deploy_op.h"
#include "native_op.h"
#include "offset_table.h"

namespace ort_quant {

// The shape of Gemm's result; OpError if the shapes do not fit.
Shape gemm_shape(const Shape& a, const Shape& b, bool trans_a, bool trans_b);

// numpy's rules. OpError if the shapes do not fit.
Shape matmul_shape(const Shape& a, const Shape& b);

// y int32 = c + Σ (a − offset)·b with alpha = beta = 1.
class IntegerGemm {
 public:
  static constexpr const char* kName = "Gemm";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = 8;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
            ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32}; }

  IntegerGemm(const KernelInfo& info, const KernelTable&);
  void compute(const KernelContext& context) const;

 private:
  int offset_;
  int weight_offset_;
  bool trans_a_;
  bool trans_b_;
  bool has_bias_;
};

// y int32 = Σ (a − offset)·b, any rank.
class IntegerMatMul {
 public:
  static constexpr const char* kName = "MatMul";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = 2;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32}; }

  IntegerMatMul(const KernelInfo& info, const KernelTable&)
      : offset_(activation_offset(info, 0)), weight_offset_(weight_offset(info)) {}
  void compute(const KernelContext& context) const;

 private:
  int offset_;
  int weight_offset_;
};

template <ONNXTensorElementDataType kType>
class NativeGemm {
 public:
  static constexpr const char* kName = "Gemm";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = IntegerGemm::kStartVersion;
  static std::vector<ONNXTensorElementDataType> input_types() { return {kType, kType, kType}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {kType}; }

  NativeGemm(const KernelInfo& info, const KernelTable&)
      : trans_a_(info.attribute("transA", std::int64_t{0}) != 0),
        trans_b_(info.attribute("transB", std::int64_t{0}) != 0),
        native_(info, kName, 13, {{{"transA", 0}, {"transB", 0}}, {{"alpha", 1.0f}, {"beta", 1.0f}}, {}, {}}) {}

  void compute(const KernelContext& context) const {
    native_.run(context, gemm_shape(context.input<char>(0).shape, context.input<char>(1).shape, trans_a_, trans_b_));
  }

 private:
  bool trans_a_;
  bool trans_b_;
  Delegate<kType> native_;
};

template <ONNXTensorElementDataType kType>
class NativeMatMul {
 public:
  static constexpr const char* kName = "MatMul";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = IntegerMatMul::kStartVersion;
  static std::vector<ONNXTensorElementDataType> input_types() { return {kType, kType}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {kType}; }

  NativeMatMul(const KernelInfo& info, const KernelTable&) : native_(info, kName, 13, {}) {}

  void compute(const KernelContext& context) const {
    native_.run(context, matmul_shape(context.input<char>(0).shape, context.input<char>(1).shape));
  }

 private:
  Delegate<kType> native_;
};

}  // namespace ort_quant
