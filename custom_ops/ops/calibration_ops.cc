#include "calibration_ops.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <fstream>

#include "attributes.h"
#include "sketch_calibration.h"

namespace ort_quant {
namespace {

std::string quoted_list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "'" : ", '") + name + "'";
  return text;
}

bool read_keeps_sketch(const KernelInfo& info) {
  const std::string storage = info.attribute("storage", std::string("exact"));
  if (storage != "exact" && storage != "sketch") {
    refuse_attribute("storage", '"' + storage + '"', "exact or sketch", kConfigure);
  }
  return storage == "sketch";
}

}  // namespace

RecordTarget::RecordTarget(const KernelInfo& info)
    : tensor(info.input_name(0)),
      record_file_path(info.required_string("record_file_path")),
      batch_num(read_int(info, "batch_num", 1, 1, std::int64_t{1} << 40)) {
  const std::int64_t count = read_int(info, "layer_num", 1, 1, 1 << 20);
  for (std::int64_t i = 0; i < count; ++i) {
    layers.push_back(info.required_exact_string(("object_layer" + std::to_string(i)).c_str()));
  }
}

std::string RecordTarget::subject() const {
  return (layers.size() == 1 ? "layer " : "layers ") + quoted_list(layers) + " (tensor '" + tensor + "')";
}

CalibrationSettings::CalibrationSettings(const KernelInfo& info)
    : RecordTarget(info),
      num_bits(static_cast<int>(read_int(info, "num_bits", 8, 2, 16))),
      with_offset(read_int(info, "with_offset", 1, 0, 1) != 0),
      check_criterion(read_int(info, "check_criterion", 0, 0, 1) != 0),
      input_stamp(info.attribute("input_stamp", std::string("data"))),
      precision_mode(read_half_precision(info) ? "FORCE_FP16_QUANT" : "DEFAULT"),
      keeps_sketch(read_keeps_sketch(info)) {
  if (input_stamp != "data" && input_stamp != "initial_h") {
    refuse_attribute("input_stamp", '"' + input_stamp + '"', "data or initial_h", kConfigure);
  }
  if (read_int(info, "need_dump", 0, 0, 1) != 0) dump_dir = info.required_string("dump_dir");
}

// ---- IFMR ------------------------------------------------------------------------------------------------------

IfmrMethod::IfmrMethod(const KernelInfo& info, const CalibrationSettings& settings)
    : batches_(static_cast<std::size_t>(settings.batch_num)) {
  params_.bits = settings.num_bits;
  params_.asymmetric = settings.with_offset;
  if (settings.keeps_sketch) sketch_.emplace();
  params_.start = info.attribute("start_ratio", params_.start);
  params_.end = info.attribute("end_ratio", params_.end);
  params_.step = info.attribute("step", params_.step);
  params_.max_percentile = info.attribute("max_percentile", params_.max_percentile);
  params_.min_percentile = info.attribute("min_percentile", params_.min_percentile);
  for (const char* name : {"max_percentile", "min_percentile"}) {
    const float value = name[1] == 'a' ? params_.max_percentile : params_.min_percentile;
    if (!(value > 0.5f && value <= 1.0f)) refuse_attribute(name, to_text(value), "a number in (0.5, 1]", kConfigure);
  }
  if (!(params_.start > 0 && params_.start < params_.end && std::isfinite(params_.end))) {
    refuse_attribute("start_ratio", to_text(params_.start),
                     "0 < start_ratio < end_ratio (end_ratio is " + to_text(params_.end) + ")", kConfigure);
  }
  constexpr float kMostCandidates = 100000;
  const float width = params_.end - params_.start;
  // What rounding start, end and step to float32 can take away at most: 0.9 − 0.7 is less than 0.2 there.
  const float rounding = 2 * FLT_EPSILON * params_.end;
  if (!(params_.step > 0 && params_.step <= width + rounding && width / params_.step <= kMostCandidates)) {
    refuse_attribute("step", to_text(params_.step),
                     "0 < step <= end_ratio − start_ratio (" + to_text(width) + "), at most 100000 steps", kConfigure);
  }
}

void IfmrMethod::add(Span<const float> batch, const KernelTable& kernels, const ForEach& for_each) {
  if (sketch_) return sketch_->add(batch, kernels, for_each);
  // Room for all batches at once: growing step by step would need twice the memory at its peak.
  constexpr std::size_t kForeseeableBatches = 1024;
  if (values_.empty()) values_.reserve(batch.size * std::min(batches_, kForeseeableBatches));
  values_.insert(values_.end(), batch.begin(), batch.end());
}

std::optional<Range> IfmrMethod::finish(const KernelTable& kernels, const ForEach& for_each) {
  if (sketch_) return sketch_->empty() ? std::nullopt : std::optional(ifmr(sketch_->distribution(), params_, for_each));
  if (values_.empty()) return std::nullopt;
  return ifmr({values_.data(), values_.size()}, params_, kernels, for_each);
}

// ---- HFMG ------------------------------------------------------------------------------------------------------

HfmgMethod::HfmgMethod(const KernelInfo& info, const CalibrationSettings& settings)
    : histogram_(static_cast<std::size_t>(read_int(info, "nbins", 4096, 1, 1 << 20))) {
  params_.bins = histogram_.counts().size();
  params_.bits = settings.num_bits;
  params_.asymmetric = settings.with_offset;
  if (settings.keeps_sketch) sketch_.emplace();
}

void HfmgMethod::add(Span<const float> batch, const KernelTable& kernels, const ForEach& for_each) {
  if (sketch_) return sketch_->add(batch, kernels, for_each);
  histogram_.add(batch, kernels, for_each);
}

std::optional<Range> HfmgMethod::finish(const KernelTable&, const ForEach&) {
  if (sketch_) return sketch_->empty() ? std::nullopt : std::optional(hfmg(sketch_->distribution(), params_));
  if (histogram_.empty()) return std::nullopt;
  return hfmg(histogram_, params_);
}

// ---- both ------------------------------------------------------------------------------------------------------

void check_finite(Span<const float> batch, const char* op, const std::string& subject, const KernelTable& kernels) {
  const ScanResult scan = kernels.scan(batch.data, batch.size);
  if (scan.nan_count + scan.inf_count == 0) return;
  throw OpError(std::string(op) + " calibration data has inf/nan value: " + subject + " holds " +
                std::to_string(scan.nan_count) + " NaN and " + std::to_string(scan.inf_count) + " infinite of " +
                std::to_string(batch.size) +
                " values, expected finite ones. Check the input data and its preprocessing, or add the layer to "
                "skip_layers.");
}

void dump_batch(const CalibrationSettings& settings, std::int64_t run, const Shape& shape, Span<const float> batch) {
  std::vector<float> header{static_cast<float>(shape.size())};
  for (std::int64_t dimension : shape) header.push_back(static_cast<float>(dimension));
  for (const std::string& name : settings.layers) {
    std::string layer = right_trimmed(name);
    std::replace(layer.begin(), layer.end(), '/', '_');
    const std::string path =
        *settings.dump_dir + "/" + layer + "_act_calibration_layer_" + std::to_string(run) + ".bin";
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(header.data()),
               static_cast<std::streamsize>(header.size() * sizeof(float)));
    file.write(reinterpret_cast<const char*>(batch.data), static_cast<std::streamsize>(batch.size * sizeof(float)));
    file.close();
    if (!file) {
      throw OpError("cannot write the dump file " + path + ". Create the folder given as 'dump_dir', make it writable, "
                    "or set need_dump to 0.");
    }
  }
}

}  // namespace ort_quant
