// Observe: a node beside a tensor that keeps a sketch of all it sees.
//
// Inputs x (any shape) and flush (one bool). Output uint8 [n]: empty, or, when flush is true, the sketch of everything
// since the last flush, this run included, serialized; the next run starts a new one. So the outputs of any sessions
// merge into the sketch of all their data.
#pragma once

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "custom_op.h"
#include "kernel_table.h"
#include "ort.h"
#include "sketch.h"

namespace ort_quant {

// The attributes key (default: the name of input 0) and axis (default: no channel ranges).
class ObserveSettings {
 public:
  explicit ObserveSettings(const KernelInfo& info);

  const std::string& key() const { return key_; }
  const std::optional<std::int32_t>& axis() const { return axis_; }

  // Where the channels of this shape are. OpError if it lacks the axis, or has another channel count than the shapes
  // before.
  ChannelLayout layout_of(const Shape& shape);

 private:
  std::string key_;
  std::optional<std::int32_t> axis_;
  std::optional<std::size_t> channels_;
};

// The one value of the input flush. OpError unless it is one.
bool read_flush(const Tensor<const bool>& input);

template <class In>
class Observe {
 public:
  static constexpr const char* kName = "Observe";
  static constexpr OutputShape kOutputShape = OutputShape::kNone;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ElementType<In>::value, ElementType<bool>::value};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<std::uint8_t>::value}; }

  Observe(const KernelInfo& info, const KernelTable& kernels) : settings_(info), kernels_(kernels) {}

  void compute(const KernelContext& context) {
    const Tensor<const In> x = context.input<In>(0);
    const bool flush = read_flush(context.input<bool>(1));
    const std::lock_guard<std::mutex> lock(mutex_);
    sketch_.add(x.values, kernels_, context.for_each(), settings_.layout_of(x.shape));
    std::vector<std::uint8_t> bytes;
    if (flush) bytes = sketch_.serialize(settings_.key(), settings_.axis());
    const Span<std::uint8_t> output = context.output<std::uint8_t>(0, {static_cast<std::int64_t>(bytes.size())});
    if (bytes.empty() || output.data == nullptr) return;
    std::copy(bytes.begin(), bytes.end(), output.begin());
    sketch_ = {};
  }

 private:
  ObserveSettings settings_;
  const KernelTable& kernels_;
  std::mutex mutex_;
  Sketch sketch_;
};

}  // namespace ort_quant
