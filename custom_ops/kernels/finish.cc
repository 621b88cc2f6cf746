#include "finish.h"

#include <limits>

#include "qkernels.h"

namespace ort_quant {

std::optional<ByteOutput> byte_output(const Epilogue& epilogue, const OutputSpec& outputs, bool finite_results) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool only_codes = outputs.y && !outputs.y_float && !outputs.y2;
  if (!finite_results || !only_codes || epilogue.steps().size() > 1) return std::nullopt;
  ByteOutput output{nullptr, {outputs.y->scale, outputs.y->offset}, -kInfinity, kInfinity};
  if (epilogue.steps().empty()) return output;
  const Step& step = epilogue.steps().front();
  if (step.a.kind != Operand::Kind::kValue) return std::nullopt;
  if (step.op == StepOp::kRelu) {
    output.lowest = 0.0f;
  } else if (step.op == StepOp::kClip && step.low <= step.high) {
    output.lowest = step.low;
    output.highest = step.high;
  } else {
    return std::nullopt;
  }
  return output;
}

LayerFinish::LayerFinish(const Epilogue& epilogue, const OutputSpec& outputs, const OutputTensors& tensors,
                         const KernelTable& kernels)
    : program_(finish_program(epilogue, outputs)),
      bytes_(byte_output(epilogue, outputs, true)),
      tensors_(tensors),
      kernels_(*kernels.quantized) {}

LayerOutput LayerFinish::output() {
  if (!bytes_) return LayerOutput::of(PieceOutput{take, this});
  bytes_->y = tensors_.y;
  return LayerOutput::of(*bytes_);
}

void LayerFinish::take(void* context, float* values, std::size_t position, std::size_t channel,
                       std::size_t count) {
  const auto& self = *static_cast<const LayerFinish*>(context);
  self.kernels_.finish_tile(self.program_, self.tensors_, {&position, 1, channel, count}, values, kLargestPiece);
}

}  // namespace ort_quant
