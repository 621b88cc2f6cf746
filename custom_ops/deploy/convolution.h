// Overrides of Conv and ConvTranspose: int8 with 32-bit sums; other types by ONNX Runtime's kernels.
#pragma once

#include <vector>

#include "deploy_op.h"
#include "native_op.h"
#include "offset_table.h"
#include "sliding_window.h"

namespace ort_quant {

// Where the window of a convolution stands, read from the node for one run. Shapes are [N, C, spatial…].
struct ConvPlan {
  Window window;
  Placement placement;
  std::size_t group = 1;
  Shape output;
};

// OpError if x and w do not fit each other or the attributes.
ConvPlan plan_convolution(const KernelInfo& info, bool transposed, const Shape& x, const Shape& w);

// y int32 = bias + Σ (x − offset)·w; padding counts as the real zero.
class IntegerConvolution {
 public:
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = 2;
  static std::vector<ONNXTensorElementDataType> input_types();
  static std::vector<ONNXTensorElementDataType> output_types() { return {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32}; }

  IntegerConvolution(const KernelInfo& info, bool transposed);
  void compute(const KernelContext& context) const;

 private:
  KeptInfo info_;
  int offset_;
  int weight_offset_;
  bool transposed_;
  bool has_bias_;
};

struct IntegerConv : IntegerConvolution {
  static constexpr const char* kName = "Conv";
  IntegerConv(const KernelInfo& info, const KernelTable&) : IntegerConvolution(info, false) {}
};

struct IntegerConvTranspose : IntegerConvolution {
  static constexpr const char* kName = "ConvTranspose";
  IntegerConvTranspose(const KernelInfo& info, const KernelTable&) : IntegerConvolution(info, true) {}
};

template <ONNXTensorElementDataType kType, bool kTransposed>
class NativeConvolution {
 public:
  static constexpr const char* kName = kTransposed ? "ConvTranspose" : "Conv";
  static constexpr OutputShape kOutputShape = OutputShape::kOpen;
  static constexpr std::size_t kRequiredInputs = 2;
  static constexpr std::size_t kRequiredOutputs = 1;
  static constexpr int kStartVersion = 2;
  static std::vector<ONNXTensorElementDataType> input_types() { return {kType, kType, kType}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {kType}; }

  NativeConvolution(const KernelInfo& info, const KernelTable&)
      : info_(info),
        native_(info, kName, 11,
                {{{"group", 1}},
                 {},
                 {{"auto_pad", "NOTSET"}},
                 {"dilations", "kernel_shape", "pads", "strides", "output_padding", "output_shape"}}) {}

  void compute(const KernelContext& context) const {
    const ConvPlan plan =
        plan_convolution(info_.info(), kTransposed, context.input<char>(0).shape, context.input<char>(1).shape);
    native_.run(context, plan.output);
  }

 private:
  KeptInfo info_;
  Delegate<kType> native_;
};

}  // namespace ort_quant
