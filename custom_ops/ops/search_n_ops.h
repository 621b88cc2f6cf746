// SearchN, SearchNv2 and DMQBalancer: nodes without outputs that write shift_bit or tensor_balance_factor.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "calibration_ops.h"
#include "custom_op.h"
#include "kernel_table.h"
#include "ort.h"
#include "search_n.h"

namespace ort_quant {

// The value of the input scale_d; OpError unless it has one.
float read_scale_d(const Tensor<const float>& input);

// DMQBalancer's attributes: migration_strength (0.5), channel_num (0: not checked), object_layer, record_file_path.
class DmqSettings {
 public:
  explicit DmqSettings(const KernelInfo& info);
  // Largest magnitude per channel of input `index`; OpError for a wrong channel count or non-finite values.
  std::vector<float> channel_maxima(std::size_t index, const Shape& shape, Span<const float> values,
                                    const KernelTable& kernels) const;
  void write(const std::vector<float>& activation_max, const std::vector<float>& weight_max) const;

 private:
  std::string input_names_[2];
  std::string layer_;
  std::string record_file_path_;
  float migration_strength_;
  std::int64_t channel_num_;
};

// The state of both SearchN ops: errors per channel, or per tensor if there is one weight scale.
class ShiftAccumulator {
 public:
  // Values [channels, …]; an empty tensor adds nothing. OpError for scales that are not positive, or whose count is 0 or
  // neither 1 nor the channel count.
  void add(const Shape& shape, Span<const float> values, float scale_d, Span<const float> scale_w,
           ShiftDivision division, const ForEach& for_each);
  // N of each channel as text; OpError if no values were added.
  std::vector<std::string> best() const;

 private:
  std::vector<ShiftSearch> searches_;
};

// Inputs: the layer's output [C, …], scale_d float[1] (0 while unknown), scale_w float[1 or C]. Like IFMR it uses the
// first batch_num runs and writes in the last. SearchN keeps the batches, because scale_d is known in that run only;
// SearchNv2 keeps only error sums and so uses the runs whose scale_d is known already.
template <class In, bool kLowMemory>
class SearchN {
 public:
  static constexpr const char* kName = kLowMemory ? "SearchNv2" : "SearchN";
  static constexpr OutputShape kOutputShape = OutputShape::kNone;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ElementType<In>::value, ElementType<float>::value, ElementType<float>::value};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {}; }

  SearchN(const KernelInfo& info, const KernelTable& kernels) : settings_(info), kernels_(kernels) {}

  void compute(const KernelContext& context) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (written_) return;
    const float scale_d = read_scale_d(context.input<float>(1));
    const Span<const float> scale_w = context.input<float>(2).values;
    if (runs_ < settings_.batch_num) {
      observe(context, scale_d, scale_w);
      ++runs_;
    }
    if (runs_ < settings_.batch_num) return;
    for (const Batch& batch : batches_) {
      shifts_.add(batch.shape, {batch.values.data(), batch.values.size()}, scale_d, scale_w, kDivision,
                  context.for_each());
    }
    batches_.clear();
    write_record_fields(settings_.record_file_path, settings_.layers, repeated_field("shift_bit", shifts_.best()));
    written_ = true;
  }

 private:
  static constexpr ShiftDivision kDivision = kLowMemory ? ShiftDivision::kFloor : ShiftDivision::kTruncate;

  struct Batch {
    Shape shape;
    std::vector<float> values;
  };

  void observe(const KernelContext& context, float scale_d, Span<const float> scale_w) {
    const Tensor<const In> y = context.input<In>(0);
    std::vector<float> buffer;
    const Span<const float> values = as_float(y.values, buffer, kernels_);
    check_finite(values, kName, settings_.subject(), kernels_);
    if (!kLowMemory) {
      batches_.push_back({y.shape, {values.begin(), values.end()}});
    } else if (scale_d != 0) {
      shifts_.add(y.shape, values, scale_d, scale_w, kDivision, context.for_each());
    }
  }

  RecordTarget settings_;
  const KernelTable& kernels_;
  std::mutex mutex_;
  std::int64_t runs_ = 0;
  bool written_ = false;
  std::vector<Batch> batches_;
  ShiftAccumulator shifts_;
};

// Inputs: activation and weight, both [C, …] with C the input channels. Every run overwrites the factors.
template <class In>
class DmqBalancer {
 public:
  static constexpr const char* kName = "DMQBalancer";
  static constexpr OutputShape kOutputShape = OutputShape::kNone;
  static std::vector<ONNXTensorElementDataType> input_types() {
    return {ElementType<In>::value, ElementType<In>::value};
  }
  static std::vector<ONNXTensorElementDataType> output_types() { return {}; }

  DmqBalancer(const KernelInfo& info, const KernelTable& kernels) : settings_(info), kernels_(kernels) {}

  void compute(const KernelContext& context) const {
    std::vector<float> maxima[2];
    for (std::size_t i = 0; i < 2; ++i) {
      const Tensor<const In> x = context.input<In>(i);
      std::vector<float> buffer;
      maxima[i] = settings_.channel_maxima(i, x.shape, as_float(x.values, buffer, kernels_), kernels_);
    }
    settings_.write(maxima[0], maxima[1]);
  }

 private:
  DmqSettings settings_;
  const KernelTable& kernels_;
};

}  // namespace ort_quant
