#include "ort.h"

#include <limits>
#include <locale>
#include <memory>
#include <sstream>

namespace ort_quant {

void check(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = ort_abi::GetErrorMessage::call(api, status);
  ort_abi::ReleaseStatus::call(api, status);
  throw OpError(message);
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ",") + std::to_string(shape[i]);
  return text + "]";
}

std::size_t element_count(const Shape& shape) {
  std::size_t count = 1;
  for (std::int64_t dimension : shape) count *= static_cast<std::size_t>(dimension);
  return count;
}

std::string to_text(float value, int digits) {
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text.precision(digits);
  text << value;
  return text.str();
}

std::string to_text(float value) {
  constexpr int kEnoughDigits = std::numeric_limits<float>::max_digits10;
  for (int digits = 1; digits < kEnoughDigits; ++digits) {
    const std::string text = to_text(value, digits);
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    float read_back = 0;
    if (stream >> read_back && read_back == value) return text;
  }
  return to_text(value, kEnoughDigits);
}

std::string right_trimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

// ---- KernelInfo ------------------------------------------------------------------------------------------------

namespace {

// The runtime's two-step string protocol: ask for the size (null buffer), then for the text with its final zero.
template <class Call>
std::optional<std::string> read_string(Call call) {
  std::size_t size = 0;
  if (!call(nullptr, &size)) return std::nullopt;
  std::string text(size, '\0');
  if (size > 0 && !call(&text[0], &size)) return std::nullopt;
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

}  // namespace

bool KernelInfo::succeeded(OrtStatus* status) const {
  if (status == nullptr) return true;
  ort_abi::ReleaseStatus::call(api_, status);
  return false;
}

std::string KernelInfo::node_name() const {
  const auto name = read_string([&](char* text, std::size_t* size) {
    return succeeded(ort_abi::KernelInfo_GetNodeName::call(api_, info_, text, size));
  });
  return name.value_or("");
}

std::string KernelInfo::input_name(std::size_t index) const {
  const auto name = read_string([&](char* text, std::size_t* size) {
    return succeeded(ort_abi::KernelInfo_GetInputName::call(api_, info_, input_number(index), text, size));
  });
  return name.value_or("");
}

std::string KernelInfo::output_name(std::size_t index) const {
  const auto name = read_string([&](char* text, std::size_t* size) {
    return succeeded(ort_abi::KernelInfo_GetOutputName::call(api_, info_, outputs_(index).value_or(index), text, size));
  });
  return name.value_or("");
}

KernelInfo KernelInfo::part(std::string prefix, std::vector<std::size_t> inputs,
                            std::vector<std::size_t> outputs) const {
  KernelInfo info(api_, info_);
  info.prefix_ = std::move(prefix);
  info.inputs_ = {std::move(inputs), false};
  info.outputs_ = {std::move(outputs), false};
  return info;
}

std::optional<std::size_t> KernelInfo::Numbers::operator()(std::size_t index) const {
  if (own) return index;
  return index < of.size() ? std::optional(of[index]) : std::nullopt;
}

bool KernelInfo::has_input(std::size_t index) const {
  std::size_t count = 0;
  check(api_, ort_abi::KernelInfo_GetInputCount::call(api_, info_, &count));
  const auto number = inputs_(index);
  return number && *number < count && !input_name(index).empty();
}

bool KernelInfo::has_output(std::size_t index) const {
  std::size_t count = 0;
  check(api_, ort_abi::KernelInfo_GetOutputCount::call(api_, info_, &count));
  const auto number = outputs_(index);
  if (number == kInside) return true;
  return number && *number < count && !output_name(index).empty();
}

namespace {

// Shape and first element of a tensor. The C API has one accessor for reading and writing; inputs are only read.
const void* read_tensor(const OrtApi& api, const OrtValue* value, Shape& shape) {
  OrtTensorTypeAndShapeInfo* raw_info = nullptr;
  check(api, ort_abi::GetTensorTypeAndShape::call(api, value, &raw_info));
  const auto release = [&api](OrtTensorTypeAndShapeInfo* p) { ort_abi::ReleaseTensorTypeAndShapeInfo::call(api, p); };
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(release)> info(raw_info, release);
  std::size_t rank = 0;
  check(api, ort_abi::GetDimensionsCount::call(api, info.get(), &rank));
  shape.resize(rank);
  check(api, ort_abi::GetDimensions::call(api, info.get(), shape.data(), rank));
  void* data = nullptr;
  check(api, ort_abi::GetTensorMutableData::call(api, const_cast<OrtValue*>(value), &data));
  return data;
}

}  // namespace

const void* KernelInfo::constant_data(std::size_t index, const char* name, Shape& shape) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(api_, ort_abi::KernelInfoGetConstantInput_tensor::call(api_, info_, input_number(index), &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    throw OpError("input '" + std::string(name) + "' (tensor '" + input_name(index) +
                  "') is not a constant, expected an initializer, because it is packed when the session is created. "
                  "Fold the nodes that compute it, and do not list it among the graph's inputs.");
  }
  return read_tensor(api_, value, shape);
}

std::optional<float> KernelInfo::find_float(const char* name) const {
  float value = 0;
  if (!succeeded(ort_abi::KernelInfoGetAttribute_float::call(api_, info_, full(name).c_str(), &value))) return std::nullopt;
  return value;
}

std::optional<std::int64_t> KernelInfo::find_int(const char* name) const {
  std::int64_t value = 0;
  if (!succeeded(ort_abi::KernelInfoGetAttribute_int64::call(api_, info_, full(name).c_str(), &value))) return std::nullopt;
  return value;
}

std::optional<std::string> KernelInfo::find_exact_string(const char* name) const {
  return read_string([&](char* text, std::size_t* size) {
    return succeeded(ort_abi::KernelInfoGetAttribute_string::call(api_, info_, full(name).c_str(), text, size));
  });
}

std::optional<std::string> KernelInfo::find_string(const char* name) const {
  auto value = find_exact_string(name);
  if (value) value = right_trimmed(*std::move(value));
  return value;
}

// After an attribute was not found as `expected`: nothing if it is missing, else OpError. The runtime answers alike for
// "missing" and "of another type", except that its getter of INTS gives an empty list for any attribute that exists.
void KernelInfo::refuse_other_type(const char* name, const char* expected) const {
  const char* found = nullptr;
  std::size_t size = 0;
  if (find_int(name)) {
    found = "INT";
  } else if (find_float(name)) {
    found = "FLOAT";
  } else if (find_exact_string(name)) {
    found = "STRING";
  } else if (succeeded(ort_abi::KernelInfoGetAttributeArray_int64::call(api_, info_, full(name).c_str(), nullptr, &size))) {
    found = size > 0 ? "INTS" : "another type";
  }
  if (found == nullptr) return;
  throw OpError("attribute '" + std::string(name) + "' is of type " + found + ", expected " + expected +
                ". Correct the attribute in the model.");
}

float KernelInfo::attribute(const char* name, float fallback) const {
  if (const auto value = find_float(name)) return *value;
  refuse_other_type(name, "FLOAT");
  return fallback;
}

std::optional<std::int64_t> KernelInfo::optional_int(const char* name) const {
  const auto value = find_int(name);
  if (!value) refuse_other_type(name, "INT");
  return value;
}

std::optional<std::vector<std::int64_t>> KernelInfo::optional_ints(const char* name) const {
  constexpr std::size_t kMost = 64;
  std::size_t size = 0;
  if (!succeeded(ort_abi::KernelInfoGetAttributeArray_int64::call(api_, info_, full(name).c_str(), nullptr, &size))) {
    return std::nullopt;
  }
  if (size == 0) {
    if (find_int(name) || find_float(name) || find_exact_string(name)) refuse_other_type(name, "INTS");
    return std::nullopt;
  }
  if (size > kMost) {
    throw OpError("attribute '" + std::string(name) + "' has " + std::to_string(size) +
                  " values, expected one or two per spatial axis. Correct the attribute in the model.");
  }
  std::vector<std::int64_t> values(size);
  check(api_, ort_abi::KernelInfoGetAttributeArray_int64::call(api_, info_, full(name).c_str(), values.data(), &size));
  return values;
}

std::int64_t KernelInfo::attribute(const char* name, std::int64_t fallback) const {
  return optional_int(name).value_or(fallback);
}

std::optional<std::string> KernelInfo::optional_exact_string(const char* name) const {
  auto value = find_exact_string(name);
  if (!value) refuse_other_type(name, "STRING");
  return value;
}

std::string KernelInfo::attribute(const char* name, const std::string& fallback) const {
  auto value = optional_exact_string(name);
  return value ? right_trimmed(*std::move(value)) : fallback;
}

namespace {

[[noreturn]] void refuse_missing(const char* name, const char* type) {
  throw OpError("attribute '" + std::string(name) + "' is missing, expected a " + type + ". Add it to the node.");
}

}  // namespace

float KernelInfo::required_float(const char* name) const {
  const auto value = find_float(name);
  if (!value) refuse_other_type(name, "FLOAT");
  if (!value) refuse_missing(name, "FLOAT");
  return *value;
}

std::string KernelInfo::required_string(const char* name) const {
  const std::string value = attribute(name, std::string());
  if (value.empty()) refuse_missing(name, "non-empty STRING");
  return value;
}

std::string KernelInfo::required_exact_string(const char* name) const {
  const std::string value = required_string(name);
  return find_exact_string(name).value_or(value);
}

// ---- KernelContext ---------------------------------------------------------------------------------------------

const void* KernelContext::input_data(std::size_t index, Shape& shape) const {
  const OrtValue* value = nullptr;
  check(api_, ort_abi::KernelContext_GetInput::call(api_, context_, index, &value));
  if (value == nullptr) throw OpError("input " + std::to_string(index) + " is missing. Connect it.");
  return read_tensor(api_, value, shape);
}

void* KernelContext::output_data(std::size_t index, const Shape& shape) const {
  OrtValue* value = nullptr;
  check(api_, ort_abi::KernelContext_GetOutput::call(api_, context_, index, shape.data(), shape.size(), &value));
  if (value == nullptr) return nullptr;  // an output that the model leaves out
  void* data = nullptr;
  check(api_, ort_abi::GetTensorMutableData::call(api_, value, &data));
  return data;
}

void KernelContext::parallel_for(std::size_t count, const std::function<void(std::size_t)>& body) const {
  if (count == 1) return body(0);
  if (count == 0) return;
  const auto call_body = [](void* data, std::size_t index) {
    (*static_cast<const std::function<void(std::size_t)>*>(data))(index);
  };
  void* data = const_cast<std::function<void(std::size_t)>*>(&body);
  check(api_, ort_abi::KernelContext_ParallelFor::call(api_, context_, call_body, count, 0, data));
}

}  // namespace ort_quant
