// ONNX Runtime as C++: attributes, tensors and the thread pool for kernels, and the frame that turns a kernel class into
// an OrtCustomOp. Errors are exceptions inside the library and statuses at its border.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "float16.h"
#include "ort_abi.h"
#include "range.h"
#include "span.h"

namespace ort_quant {

// An expected failure; becomes a status. The frame puts "<op> node '<name>': " before the message.
class OpError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws OpError with the status's text (and releases it) unless it is null.
void check(const OrtApi& api, OrtStatus* status);

template <class T>
struct ElementType;
template <>
struct ElementType<float> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
};
template <>
struct ElementType<Half> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
};
template <>
struct ElementType<std::int8_t> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
};
template <>
struct ElementType<std::int32_t> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
};
template <>
struct ElementType<std::uint8_t> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
};
template <>
struct ElementType<bool> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
};
template <>
struct ElementType<std::uint64_t> {
  static constexpr auto value = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64;
};

using Shape = std::vector<std::int64_t>;

std::string to_string(const Shape& shape);
std::size_t element_count(const Shape& shape);

// Decimal form, whatever the locale: with so many significant digits, or the shortest that reads back as `value`.
std::string to_text(float value, int digits);
std::string to_text(float value);

std::string right_trimmed(std::string text);  // without trailing blanks

template <class T>
struct Tensor {
  Shape shape;
  Span<T> values;
};

// What a kernel learns about its node when it is created.
class KernelInfo {
 public:
  KernelInfo(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  // What a part of the node sees: attributes whose names have the prefix, and input and output i under other numbers,
  // by the list; one that is not listed is missing. kInside is an output that exists, though not outside the node.
  static constexpr std::size_t kInside = static_cast<std::size_t>(-1);
  KernelInfo part(std::string prefix, std::vector<std::size_t> inputs, std::vector<std::size_t> outputs) const;

  const OrtApi& api() const { return api_; }
  const OrtKernelInfo* handle() const { return info_; }

  // The number that an input of this part has in the node.
  std::size_t input_number(std::size_t index) const { return inputs_(index).value_or(index); }

  std::string node_name() const;
  std::string input_name(std::size_t index) const;
  std::string output_name(std::size_t index) const;

  // Whether the node has this input or output; one that is left out has the name "" or lies beyond the last.
  bool has_input(std::size_t index) const;
  bool has_output(std::size_t index) const;

  // The value of an input that must be an initializer; it lives as long as the session. OpError if it is none. `name`
  // is the input's in the op's documentation.
  template <class T>
  Tensor<const T> constant_input(std::size_t index, const char* name) const {
    Shape shape;
    const void* data = constant_data(index, name, shape);
    const std::size_t count = element_count(shape);
    return {std::move(shape), {static_cast<const T*>(data), count}};
  }

  // The attribute, the fallback if it is missing; OpError if it has another type. Strings lose trailing blanks.
  float attribute(const char* name, float fallback) const;
  std::int64_t attribute(const char* name, std::int64_t fallback) const;
  std::string attribute(const char* name, const std::string& fallback) const;

  // The same without a fallback. The string keeps trailing blanks.
  std::optional<std::int64_t> optional_int(const char* name) const;
  std::optional<std::string> optional_exact_string(const char* name) const;

  // INTS; none if it is missing or an empty list. OpError for more than 64 values.
  std::optional<std::vector<std::int64_t>> optional_ints(const char* name) const;

  // OpError if it is missing.
  float required_float(const char* name) const;
  std::string required_string(const char* name) const;
  std::string required_exact_string(const char* name) const;  // with its trailing blanks

 private:
  std::optional<float> find_float(const char* name) const;
  std::optional<std::int64_t> find_int(const char* name) const;
  std::optional<std::string> find_string(const char* name) const;
  std::optional<std::string> find_exact_string(const char* name) const;
  void refuse_other_type(const char* name, const char* expected) const;
  const void* constant_data(std::size_t index, const char* name, Shape& shape) const;
  bool succeeded(OrtStatus* status) const;

  // The lists of a part; none: the node's own numbers.
  struct Numbers {
    std::vector<std::size_t> of;
    bool own = true;

    std::optional<std::size_t> operator()(std::size_t index) const;
  };

  std::string full(const char* name) const { return prefix_ + name; }

  const OrtApi& api_;
  const OrtKernelInfo* info_;
  std::string prefix_;
  Numbers inputs_;
  Numbers outputs_;
};

// Inputs, outputs and the session's thread pool during one call of a kernel.
class KernelContext {
 public:
  KernelContext(const OrtApi& api, OrtKernelContext* context) : api_(api), context_(context) {}

  const OrtApi& api() const { return api_; }
  OrtKernelContext* handle() const { return context_; }

  template <class T>
  Tensor<const T> input(std::size_t index) const {
    Shape shape;
    const void* data = input_data(index, shape);
    const std::size_t count = element_count(shape);
    return {std::move(shape), {static_cast<const T*>(data), count}};
  }

  // Null data for an output that the model leaves out.
  template <class T>
  Span<T> output(std::size_t index, const Shape& shape) const {
    return {static_cast<T*>(output_data(index, shape)), element_count(shape)};
  }

  // Calls body(i) for i < count on the session's intra-op threads. `body` must not throw.
  void parallel_for(std::size_t count, const std::function<void(std::size_t)>& body) const;

  ForEach for_each() const {
    return [this](std::size_t count, const std::function<void(std::size_t)>& body) { parallel_for(count, body); };
  }

 private:
  const void* input_data(std::size_t index, Shape& shape) const;
  void* output_data(std::size_t index, const Shape& shape) const;

  const OrtApi& api_;
  OrtKernelContext* context_;
};

// Element-wise work of `count` values in blocks that are worth a thread: body(begin, size).
template <class F>
void parallel_blocks(const KernelContext& context, std::size_t count, F body) {
  constexpr std::size_t kBlock = 16384;
  const std::size_t blocks = (count + kBlock - 1) / kBlock;
  context.parallel_for(blocks, [&](std::size_t block) {
    const std::size_t begin = block * kBlock;
    body(begin, count - begin < kBlock ? count - begin : kBlock);
  });
}

}  // namespace ort_quant
