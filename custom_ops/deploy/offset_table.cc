#include "offset_table.h"

#include <map>
#include <mutex>
#include <utility>

namespace ort_quant {
namespace {

using Key = std::pair<const void*, std::string>;

struct Table {
  std::mutex mutex;
  std::multimap<Key, int> offsets;
};

Table& table() {
  static auto& instance = *new Table();  // kernels may outlive static destructors
  return instance;
}

const void* session_of(const KernelInfo& info) {
  const OrtLogger* logger = nullptr;
  check(info.api(), ort_abi::KernelInfo_GetLogger::call(info.api(), info.handle(), &logger));
  return logger;
}

}  // namespace

ProvidedOffset::ProvidedOffset(const KernelInfo& info, int offset)
    : session_(session_of(info)), tensor_(info.output_name(0)), offset_(offset) {
  const std::lock_guard<std::mutex> lock(table().mutex);
  table().offsets.emplace(Key{session_, tensor_}, offset);
}

ProvidedOffset::~ProvidedOffset() {
  const std::lock_guard<std::mutex> lock(table().mutex);
  const auto [first, last] = table().offsets.equal_range({session_, tensor_});
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second != offset_) continue;
    table().offsets.erase(entry);
    return;
  }
}

std::optional<int> find_offset(const KernelInfo& info, std::size_t index) {
  const std::string tensor = info.input_name(index);
  const Key key{session_of(info), tensor};
  const std::lock_guard<std::mutex> lock(table().mutex);
  const auto [first, last] = table().offsets.equal_range(key);
  if (first == last) return std::nullopt;
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second == first->second) continue;
    throw OpError("the int8 tensor '" + tensor + "' is quantized with the offsets " + std::to_string(first->second) +
                  " and " + std::to_string(entry->second) + " in different branches of the model, expected different "
                  "names. Rename one of the tensors.");
  }
  return first->second;
}

int activation_offset(const KernelInfo& info, std::size_t index) {
  if (const auto offset = find_offset(info, index)) return *offset;
  throw OpError("the int8 tensor '" + info.input_name(index) + "' does not come from an AscendQuant node (or a Pad "
                "behind one), so its offset is unknown. Run 'ort-quant lower' on the deploy model, or run the "
                "fake-quant model.");
}

int weight_offset(const KernelInfo& info) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  const OrtApi& api = info.api();
  check(api, ort_abi::KernelInfoGetConstantInput_tensor::call(api, info.handle(), 1, &is_constant, &value));
  if (is_constant != 0) return 0;
  if (const auto offset = find_offset(info, 1)) return *offset;
  throw OpError("the int8 weights '" + info.input_name(1) + "' are neither an initializer nor the output of an "
                "AscendQuant or AscendWeightQuant node, so their offset is unknown. If they are an initializer that is "
                "also listed among the graph's inputs, take them out of the inputs.");
}

}  // namespace ort_quant
