#include "native_op.h"

namespace ort_quant {
namespace {

template <class T>
using Owned = std::unique_ptr<T, std::function<void(T*)>>;

Owned<OrtOpAttr> make_attribute(const OrtApi& api, const char* name, const void* data, std::size_t count,
                                OrtOpAttrType type) {
  OrtOpAttr* attribute = nullptr;
  check(api, ort_abi::CreateOpAttr::call(api, name, data, static_cast<int>(count), type, &attribute));
  return {attribute, [&api](OrtOpAttr* a) { ort_abi::ReleaseOpAttr::call(api, a); }};
}

std::vector<Owned<OrtOpAttr>> copy_attributes(const KernelInfo& info, const NativeAttributes& names) {
  const OrtApi& api = info.api();
  std::vector<Owned<OrtOpAttr>> attributes;
  for (const auto& [name, fallback] : names.ints) {
    const std::int64_t value = info.attribute(name, fallback);
    attributes.push_back(make_attribute(api, name, &value, 1, ORT_OP_ATTR_INT));
  }
  for (const auto& [name, fallback] : names.floats) {
    const float value = info.attribute(name, fallback);
    attributes.push_back(make_attribute(api, name, &value, 1, ORT_OP_ATTR_FLOAT));
  }
  for (const auto& [name, fallback] : names.strings) {
    const std::string text = info.attribute(name, std::string(fallback));
    attributes.push_back(make_attribute(api, name, text.c_str(), text.size(), ORT_OP_ATTR_STRING));
  }
  for (const char* name : names.lists) {
    if (const auto values = info.optional_ints(name)) {
      attributes.push_back(make_attribute(api, name, values->data(), values->size(), ORT_OP_ATTR_INTS));
    }
  }
  return attributes;
}

}  // namespace

FloatTensor::FloatTensor(const OrtApi& api, Shape shape) : floats_(element_count(shape)) {
  OrtMemoryInfo* raw_memory = nullptr;
  check(api, ort_abi::CreateCpuMemoryInfo::call(api, OrtDeviceAllocator, OrtMemTypeDefault, &raw_memory));
  const Owned<OrtMemoryInfo> memory(raw_memory, [&api](OrtMemoryInfo* m) { ort_abi::ReleaseMemoryInfo::call(api, m); });
  OrtValue* value = nullptr;
  check(api, ort_abi::CreateTensorWithDataAsOrtValue::call(api, raw_memory, floats_.data(),
                                                           floats_.size() * sizeof(float), shape.data(), shape.size(),
                                                           ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
  value_ = {value, [&api](OrtValue* v) { ort_abi::ReleaseValue::call(api, v); }};
}

NativeOp::NativeOp(const KernelInfo& info, const char* op, int version, ONNXTensorElementDataType type,
                   std::size_t inputs, const NativeAttributes& names) {
  const OrtApi& api = info.api();
  const std::vector<Owned<OrtOpAttr>> owned = copy_attributes(info, names);
  std::vector<const OrtOpAttr*> attributes;
  for (const auto& attribute : owned) attributes.push_back(attribute.get());
  const char* constraint = "T";
  OrtOp* created = nullptr;
  check(api, ort_abi::CreateOp::call(api, info.handle(), op, "", version, &constraint, &type, 1, attributes.data(),
                                     static_cast<int>(attributes.size()), static_cast<int>(inputs), 1, &created));
  op_ = {created, [&api](OrtOp* o) { ort_abi::ReleaseOp::call(api, o); }};
}

void NativeOp::run(const KernelContext& context, const std::vector<const OrtValue*>& inputs, OrtValue* output) const {
  check(context.api(), ort_abi::InvokeOp::call(context.api(), context.handle(), op_.get(), inputs.data(),
                                               static_cast<int>(inputs.size()), &output, 1));
}

}  // namespace ort_quant
