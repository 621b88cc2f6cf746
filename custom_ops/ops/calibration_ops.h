// IFMR and HFMG: nodes beside a tensor that watch the first batch_num runs and then write the tensor's scale and offset
// into the record file.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "custom_op.h"
#include "hfmg.h"
#include "ifmr.h"
#include "kernel_table.h"
#include "ort.h"
#include "record_file.h"
#include "sketch.h"

namespace ort_quant {

// Whose results go where, and after how many runs: the attributes of every calibration node.
struct RecordTarget {
  explicit RecordTarget(const KernelInfo& info);

  // "layer 'a' (tensor 't')"
  std::string subject() const;

  std::string tensor;               // for messages
  std::string record_file_path;     // required
  std::vector<std::string> layers;  // layer_num (1) names object_layer0 … (required)
  std::int64_t batch_num;           // 1
};

// What IFMR and HFMG read besides.
struct CalibrationSettings : RecordTarget {
  explicit CalibrationSettings(const KernelInfo& info);

  int num_bits;                         // 8
  bool with_offset;                     // 1
  bool check_criterion;                 // 0; 1: the first dimension must be 1 (recurrent layers)
  std::string input_stamp;              // data
  std::string precision_mode;           // DEFAULT
  bool keeps_sketch;                    // storage: sketch, or exact (the default), which reproduces AMCT's numbers
  std::optional<std::string> dump_dir;  // set if need_dump (0)
};

// How a method keeps the batches (finite values, never empty) and ends: exactly, or as a sketch in constant memory.
class IfmrMethod {
 public:
  static constexpr const char* kName = "IFMR";
  IfmrMethod(const KernelInfo& info, const CalibrationSettings& settings);
  void add(Span<const float> batch, const KernelTable& kernels, const ForEach& for_each);
  std::optional<Range> finish(const KernelTable& kernels, const ForEach& for_each);
  void release() {
    values_ = {};
    sketch_.reset();
  }

 private:
  IfmrParams params_;
  std::size_t batches_;
  std::vector<float> values_;
  std::optional<Sketch> sketch_;
};

class HfmgMethod {
 public:
  static constexpr const char* kName = "HFMG";
  HfmgMethod(const KernelInfo& info, const CalibrationSettings& settings);
  void add(Span<const float> batch, const KernelTable& kernels, const ForEach& for_each);
  std::optional<Range> finish(const KernelTable& kernels, const ForEach& for_each);
  void release() { sketch_.reset(); }

 private:
  HfmgParams params_;
  Histogram histogram_;
  std::optional<Sketch> sketch_;
};

// Refuses NaN and infinity, naming the tensor and how many values are bad.
void check_finite(Span<const float> batch, const char* op, const std::string& subject, const KernelTable& kernels);

// <dump_dir>/<layer with '/' as '_'>_act_calibration_layer_<run>.bin: rank and dimensions as float32, then the values.
void dump_batch(const CalibrationSettings& settings, std::int64_t run, const Shape& shape, Span<const float> batch);

// The values as float32: fp16 is widened into `buffer`.
inline Span<const float> as_float(Span<const float> values, std::vector<float>&, const KernelTable&) { return values; }
inline Span<const float> as_float(Span<const Half> values, std::vector<float>& buffer, const KernelTable& kernels) {
  buffer.resize(values.size);
  kernels.widen(values.data, buffer.data(), values.size);
  return {buffer.data(), buffer.size()};
}

// Output float[1]: the scale, 0 as long as it is not known. Runs are counted per session; a run that fails does not
// count; an empty tensor counts as a run and adds nothing. Later runs only return the scale.
template <class Method, class In>
class CalibrationOp {
 public:
  static constexpr const char* kName = Method::kName;
  static constexpr OutputShape kOutputShape = OutputShape::kScalarVector;
  static std::vector<ONNXTensorElementDataType> input_types() { return {ElementType<In>::value}; }
  static std::vector<ONNXTensorElementDataType> output_types() { return {ElementType<float>::value}; }

  CalibrationOp(const KernelInfo& info, const KernelTable& kernels)
      : settings_(info), method_(info, settings_), kernels_(kernels) {}

  void compute(const KernelContext& context) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (runs_ < settings_.batch_num) observe(context);
    if (runs_ == settings_.batch_num && !recorded_) calibrate(context);
    const Span<float> scale = context.output<float>(0, {1});
    if (scale.data != nullptr) scale[0] = range_ ? range_->scale : 0.0f;
  }

 private:
  void observe(const KernelContext& context) {
    const Tensor<const In> x = context.input<In>(0);
    if (settings_.check_criterion && (x.shape.empty() || x.shape[0] != 1)) {
      throw OpError(settings_.subject() + " has shape " + to_string(x.shape) +
                    ", expected 1 as first dimension (check_criterion). Run calibration with batch size 1.");
    }
    std::vector<float> buffer;
    const Span<const float> batch = as_float(x.values, buffer, kernels_);
    if (!batch.empty()) {
      check_finite(batch, kName, settings_.subject(), kernels_);
      if (settings_.dump_dir) dump_batch(settings_, runs_, x.shape, batch);
      naming_layer([&] { method_.add(batch, kernels_, context.for_each()); });
    }
    ++runs_;
  }

  // Repeated by the next run if writing fails, so that no later run passes in silence.
  void calibrate(const KernelContext& context) {
    if (!range_) naming_layer([&] { range_ = method_.finish(kernels_, context.for_each()); });
    if (!range_) {
      throw OpError(settings_.subject() + " had no values in " + std::to_string(runs_) +
                    " runs, expected at least one. Calibrate with inputs that reach this layer.");
    }
    ActivationRecord record;
    record.suffix = settings_.input_stamp == "initial_h" ? "h" : "d";
    record.range = *range_;
    record.bits = settings_.num_bits;
    record.op_data_type = sizeof(In) == sizeof(float) ? "FLOAT32" : "FLOAT16";
    record.precision_mode = settings_.precision_mode;
    write_record_fields(settings_.record_file_path, settings_.layers, activation_fields(record));
    recorded_ = true;
    method_.release();
  }

  // Runs a step of the method; its failures get the layer and the tensor they are about.
  template <class Step>
  void naming_layer(Step step) const {
    try {
      step();
    } catch (const CalibrationFailure& failure) {
      throw OpError(settings_.subject() + " cannot be calibrated: " + failure.what() +
                    ". Add the layer to skip_layers, or correct the input data.");
    }
  }

  CalibrationSettings settings_;
  Method method_;
  const KernelTable& kernels_;
  std::mutex mutex_;
  std::int64_t runs_ = 0;
  std::optional<Range> range_;
  bool recorded_ = false;
};

}  // namespace ort_quant
