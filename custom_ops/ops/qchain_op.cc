#include "qchain_op.h"

#include <string>
#include <utility>

namespace ort_quant {
namespace {

constexpr std::size_t kStageInputs = 4;
constexpr std::size_t kWeights = 1;
constexpr std::size_t kResiduals = 1 + kMaxStages * kStageInputs;

std::size_t stage_count(const KernelInfo& info) {
  std::size_t count = 1;
  while (count < kMaxStages && info.has_input(kWeights + count * kStageInputs)) ++count;
  if (count > 1) return count;
  throw OpError("input 'w1' is missing, expected the weights of at least two stages. Connect it, or use QConv.");
}

KernelInfo stage_info(const KernelInfo& info, std::size_t stage, bool last) {
  std::vector<std::size_t> inputs{0};
  for (std::size_t i = 0; i < kStageInputs; ++i) inputs.push_back(kWeights + stage * kStageInputs + i);
  std::vector<std::size_t> outputs{KernelInfo::kInside};
  if (last) {
    inputs.insert(inputs.end(), {kResiduals, kResiduals + 1});
    outputs = {0, 1, 2};
  }
  return info.part("stage" + std::to_string(stage) + "_", std::move(inputs), std::move(outputs));
}

void check_stage(const ConvNode& node, const ConvNode* before) {
  if (node.rank() != 2) {
    throw OpError("input 'w' has " + std::to_string(node.rank()) + " spatial sizes, expected 2. Use QConv.");
  }
  if (node.outputs().spec().float_layout != FloatLayout::kChannelsLast) {
    throw OpError("attribute 'float_layout' is \"channels_first\", expected \"channels_last\". Use QConv.");
  }
  if (before == nullptr || before->shape().channels_out == node.shape().channels_in) return;
  throw OpError("input 'w' has " + std::to_string(node.shape().channels_in) + " input channels, expected " +
                std::to_string(before->shape().channels_out) +
                ", as many as the stage before gives. Correct the weights or 'group'.");
}

// Does something for a stage; what is refused names it.
template <class Action>
auto in_stage(std::size_t stage, const Action& action) {
  try {
    return action();
  } catch (const OpError& error) {
    const std::string number = std::to_string(stage);
    throw OpError("stage " + number + " (attributes 'stage" + number + "_…', inputs 'w" + number + "' …): " +
                  error.what());
  }
}

}  // namespace

std::vector<ONNXTensorElementDataType> QConvChain::input_types() {
  constexpr auto kFloat = ElementType<float>::value;
  std::vector<ONNXTensorElementDataType> types{ElementType<std::uint8_t>::value};
  for (std::size_t stage = 0; stage < kMaxStages; ++stage) {
    types.insert(types.end(),
                 {ElementType<std::int8_t>::value, kFloat, ElementType<std::int32_t>::value, kFloat});
  }
  types.insert(types.end(), {kFloat, kFloat});
  return types;
}

QConvChain::QConvChain(const KernelInfo& info, const KernelTable& kernels) : chain_(pack(info, kernels, nodes_)) {}

ConvChain QConvChain::pack(const KernelInfo& info, const KernelTable& kernels, std::vector<ConvNode>& nodes) {
  std::vector<PackedConv> stages;
  const std::size_t count = stage_count(info);
  for (std::size_t stage = 0; stage < count; ++stage) {
    in_stage(stage, [&] {
      const KernelInfo part = stage_info(info, stage, stage + 1 == count);
      ConvNode node(part, false);
      check_stage(node, nodes.empty() ? nullptr : &nodes.back());
      stages.push_back(node.pack(part, kernels));
      nodes.push_back(std::move(node));
    });
  }
  return ConvChain(std::move(stages));
}

void QConvChain::compute(const KernelContext& context) const {
  const auto x = context.input<std::uint8_t>(0);
  std::vector<ConvGeometry> geometries;
  Shape shape = x.shape;
  for (const ConvNode& node : nodes_) {
    const Placement placement = in_stage(geometries.size(), [&] { return node.place_on(shape); });
    geometries.push_back(to_geometry(x.shape[0], placement));
    shape = node.output_shape(x.shape[0], placement);
    checked_count(shape, "a map between the stages");
  }
  const ConvOutputs outputs(nodes_.back().outputs(), context, shape);
  if (x.shape[0] > 0) chain_.run(geometries, x.values.data, outputs.tensors(), context.for_each());
}

}  // namespace ort_quant
