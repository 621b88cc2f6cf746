#include "qadd_op.h"

#include "attributes.h"
#include "finish.h"
#include "qadd.h"
#include "sliding_window.h"

namespace ort_quant {
namespace {

constexpr std::size_t kChannelConstants = 2;

ByteDequantizer read_dequantizer(const KernelInfo& info, const char* scale, const char* offset) {
  return {read_scale(info, "scale_d", scale), read_code_offset(info, offset)};
}

}  // namespace

std::vector<ONNXTensorElementDataType> QAdd::input_types() {
  constexpr auto kByte = ElementType<std::uint8_t>::value;
  constexpr auto kFloat = ElementType<float>::value;
  return {kByte, kByte, kFloat, kFloat, kFloat};
}

QAdd::QAdd(const KernelInfo& info, const KernelTable& kernels)
    : of_a_(read_dequantizer(info, "a_scale", "a_offset")),
      of_b_(read_dequantizer(info, "b_scale", "b_offset")),
      outputs_(info, kChannelConstants, 0),
      kernels_(kernels) {}

void QAdd::compute(const KernelContext& context) const {
  const auto a = context.input<std::uint8_t>(0);
  const auto b = context.input<std::uint8_t>(1);
  if (a.shape != b.shape) {
    throw OpError("inputs 'a' and 'b' have the shapes " + to_string(a.shape) + " and " + to_string(b.shape) +
                  ", expected the same. This op does not broadcast: expand one of them.");
  }
  const std::size_t count = checked_count(a.shape, "input 'a'");
  const OutputTensors tensors = outputs_.make(context, a.shape);
  if (count == 0) return;
  LayerFinish finish(outputs_.epilogue(), outputs_.spec(), tensors, kernels_);
  add_quantized(a.values.data, of_a_, b.values.data, of_b_, count / tensors.channels, tensors.channels, finish.output(),
                kernels_, context.for_each());
}

}  // namespace ort_quant
