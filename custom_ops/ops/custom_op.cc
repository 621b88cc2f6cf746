#include "custom_op.h"

#include <array>
#include <cstdint>

namespace ort_quant {
namespace {

const CustomOp& self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

constexpr std::size_t kMaxRank = 16;  // shapes beyond that are left open; no model has them

// Whether every dimension has a value or a name. The runtime writes a dimension with neither as an empty name, takes all
// empty names for one size, and then warns in every run that it cannot reuse buffers of "equal" shape.
OrtStatus* all_dimensions_named(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info, std::size_t rank, bool* named) {
  std::array<std::int64_t, kMaxRank> values{};
  std::array<const char*, kMaxRank> names{};
  if (OrtStatus* status = ort_abi::GetDimensions::call(api, info, values.data(), rank)) return status;
  if (OrtStatus* status = ort_abi::GetSymbolicDimensions::call(api, info, names.data(), rank)) return status;
  *named = true;
  for (std::size_t i = 0; i < rank; ++i) *named = *named && (values[i] >= 0 || (names[i] != nullptr && *names[i] != '\0'));
  return nullptr;
}

// Output 0 gets input 0's shape; its element type is the op's. The runtime keeps ownership of `info`. An input of rank 0
// tells nothing: the runtime shows a tensor of unknown rank the same way, so the output's shape is left open.
OrtStatus* infer_same_shape(const OrtApi& api, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  if (OrtStatus* status = ort_abi::ShapeInferContext_GetInputTypeShape::call(api, context, 0, &info)) return status;
  std::size_t rank = 0;
  if (OrtStatus* status = ort_abi::GetDimensionsCount::call(api, info, &rank)) return status;
  bool named = false;
  if (rank == 0 || rank > kMaxRank) return nullptr;
  if (OrtStatus* status = all_dimensions_named(api, info, rank, &named)) return status;
  return named ? ort_abi::ShapeInferContext_SetOutputTypeShape::call(api, context, 0, info) : nullptr;
}

}  // namespace

CustomOp::CustomOp(const OrtApi& ort_api, const KernelTable& table)
    : OrtCustomOp18{}, api(&ort_api), kernels(&table) {
  version = ort_abi::kApiVersion;
  GetName = [](const OrtCustomOp* op) { return self(op).name; };
  GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // CPU
  GetInputType = [](const OrtCustomOp* op, std::size_t index) { return self(op).inputs[index]; };
  GetInputTypeCount = [](const OrtCustomOp* op) { return self(op).inputs.size(); };
  GetOutputType = [](const OrtCustomOp* op, std::size_t index) { return self(op).outputs[index]; };
  GetOutputTypeCount = [](const OrtCustomOp* op) { return self(op).outputs.size(); };
  GetInputCharacteristic = [](const OrtCustomOp* op, std::size_t index) {
    return index < self(op).required_inputs ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  GetOutputCharacteristic = [](const OrtCustomOp* op, std::size_t index) {
    return index < self(op).required_outputs ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) -> OrtStatus* {
    return self(op).output_shape == OutputShape::kSameAsInput ? infer_same_shape(*self(op).api, context) : nullptr;
  };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
  ReleaseMayInplace = [](int*, int*) {};  // the lists live forever
}

OrtStatus* node_status(const OrtApi& api, const char* op, const std::string& node, const char* what) {
  try {
    const std::string text = std::string(op) + " node '" + node + "': " + what;
    return ort_abi::CreateStatus::call(api, ORT_FAIL, text.c_str());
  } catch (...) {
    return ort_abi::CreateStatus::call(api, ORT_FAIL, "out of memory while reporting an error");
  }
}

}  // namespace ort_quant
