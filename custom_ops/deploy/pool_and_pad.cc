#include "pool_and_pad.h"

#include <algorithm>
#include <cstring>

#include "attributes.h"

namespace ort_quant {

// ---- AveragePool -----------------------------------------------------------------------------------------------

Shape average_pool_shape(const KernelInfo& info, const Shape& x) {
  const Window window = read_window(info, nullptr);
  if (x.size() != window.rank + 2) {
    refuse_attribute("kernel_shape", "of " + std::to_string(window.rank) + " axes",
                     "one size for each spatial axis of X " + to_string(x), kCorrectModel);
  }
  Axes in{1, 1, 1};
  std::copy(x.begin() + 2, x.end(), in.end() - static_cast<std::ptrdiff_t>(window.rank));
  const bool ceil_mode = info.attribute("ceil_mode", std::int64_t{0}) != 0;
  const Placement placement = place(window, in, ceil_mode);
  const bool same = window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower;
  for (std::size_t axis = kMaxSpatialRank - window.rank; ceil_mode && axis < kMaxSpatialRank; ++axis) {
    // Where a last window would begin inside the padding, versions of ONNX Runtime differ in whether it exists.
    const std::int64_t next = placement.out[axis] * window.strides[axis];
    const std::int64_t padded = in[axis] + placement.pads_begin[axis] + placement.pads_end[axis];
    const std::int64_t extent = window.extent(axis), stride = window.strides[axis];
    if (next < padded - extent + stride || (same && extent < stride)) {
      refuse_attribute("ceil_mode", "1", "0 for these sizes: the last window would begin inside the padding",
                       "Leave this layer unquantized (skip_layers), or change its pads.");
    }
  }
  Shape shape{x[0], x[1]};
  shape.insert(shape.end(), placement.out.end() - static_cast<std::ptrdiff_t>(window.rank), placement.out.end());
  checked_count(shape, "output 'Y'");
  return shape;
}

IntegerAveragePool::IntegerAveragePool(const KernelInfo& info, const KernelTable&)
    : info_(info),
      offset_(activation_offset(info, 0)),
      native_(info, kName, average_pool_version(info), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 1,
              average_pool_attributes()) {}

void IntegerAveragePool::compute(const KernelContext& context) const {
  const auto x = context.input<std::int8_t>(0);
  const Shape shape = average_pool_shape(info_.info(), x.shape);
  OrtValue* y = nullptr;
  check(context.api(), ort_abi::KernelContext_GetOutput::call(context.api(), context.handle(), 0, shape.data(),
                                                              shape.size(), &y));
  FloatTensor integers(context.api(), x.shape);
  std::transform(x.values.begin(), x.values.end(), integers.floats().begin(),
                 [this](std::int8_t q) { return static_cast<float>(q - offset_); });
  if (!x.values.empty()) native_.run(context, {integers.value()}, y);
}

// ---- Pad -------------------------------------------------------------------------------------------------------

namespace {

// For each position of a padded axis the position it shows; −1 for the fill value. Negative pads cut off first.
std::vector<std::int64_t> shown_positions(std::int64_t size, std::int64_t begin, std::int64_t end,
                                          const std::string& mode) {
  const std::int64_t first = std::max<std::int64_t>(0, -begin);
  const std::int64_t kept = size - first - std::max<std::int64_t>(0, -end);
  std::vector<std::int64_t> shown;
  for (std::int64_t o = 0; o < size + begin + end; ++o) {
    std::int64_t i = o - std::max<std::int64_t>(0, begin);  // among those kept
    if (i < 0 || i >= kept) {
      if (mode == "constant" || kept <= 0) {
        shown.push_back(-1);
        continue;
      }
      if (mode == "edge") i = i < 0 ? 0 : kept - 1;
      if (mode == "wrap") i = (i % kept + kept) % kept;
      if (mode == "reflect") i = i < 0 ? -i : 2 * (kept - 1) - i;
    }
    shown.push_back(first + i);
  }
  return shown;
}

ONNXTensorElementDataType element_type(const KernelContext& context, std::size_t index) {
  const OrtApi& api = context.api();
  const OrtValue* value = nullptr;
  check(api, ort_abi::KernelContext_GetInput::call(api, context.handle(), index, &value));
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api, ort_abi::GetTensorTypeAndShape::call(api, value, &info));
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  OrtStatus* status = ort_abi::GetTensorElementType::call(api, info, &type);
  ort_abi::ReleaseTensorTypeAndShapeInfo::call(api, info);
  check(api, status);
  return type;
}

std::vector<std::int64_t> read_axes(const KernelContext& context, std::size_t index) {
  std::vector<std::int64_t> axes;
  if (element_type(context, index) == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32) {
    for (std::int32_t axis : context.input<std::int32_t>(index).values) axes.push_back(axis);
  } else {
    for (std::int64_t axis : context.input<std::int64_t>(index).values) axes.push_back(axis);
  }
  return axes;
}

struct PadJob {
  const char* x;
  char* y;
  std::size_t element;
  const char* fill;
  Shape input;
  std::vector<std::vector<std::int64_t>> shown;
};

// Writes what axis `axis` and those behind it show; `source` is null where an axis in front shows the fill value.
char* write_axis(const PadJob& job, std::size_t axis, const char* source, char* target) {
  if (axis == job.input.size()) {
    std::memcpy(target, source == nullptr ? job.fill : source, job.element);
    return target + job.element;
  }
  std::size_t stride = job.element;
  for (std::size_t i = axis + 1; i < job.input.size(); ++i) stride *= static_cast<std::size_t>(job.input[i]);
  for (std::int64_t i : job.shown[axis]) {
    const char* next = source == nullptr || i < 0 ? nullptr : source + static_cast<std::size_t>(i) * stride;
    target = write_axis(job, axis + 1, next, target);
  }
  return target;
}

}  // namespace

PadBase::PadBase(const KernelInfo& info)
    : has_value_(info.has_input(2)),
      has_axes_(info.has_input(3)),
      mode_(info.attribute("mode", std::string("constant"))),
      pads_attribute_(info.optional_ints("pads")),
      value_attribute_(info.attribute("value", 0.0f)) {
  if (mode_ != "constant" && mode_ != "edge" && mode_ != "reflect" && mode_ != "wrap") {
    refuse_attribute("mode", '"' + mode_ + '"', "constant, edge, reflect or wrap", kCorrectModel);
  }
  if (!pads_attribute_ && !info.has_input(1)) throw OpError("input 'pads' is missing. Connect it.");
}

void PadBase::read_pads(const KernelContext& context, const Shape& x, std::vector<std::int64_t>& pads) const {
  const std::size_t rank = x.size();
  std::vector<std::int64_t> given;
  if (pads_attribute_) {
    given = *pads_attribute_;
  } else {
    const auto input = context.input<std::int64_t>(1);
    given.assign(input.values.begin(), input.values.end());
  }
  std::vector<std::int64_t> axes;
  if (has_axes_) {
    axes = read_axes(context, 3);
  } else {
    for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  if (given.size() != 2 * axes.size()) {
    throw OpError("input 'pads' has " + std::to_string(given.size()) + " values, expected " +
                  std::to_string(2 * axes.size()) + ", two for each padded axis of " + to_string(x) +
                  ". Correct the shapes of the model.");
  }
  pads.assign(2 * rank, 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t axis = axes[i] < 0 ? axes[i] + static_cast<std::int64_t>(rank) : axes[i];
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) {
      throw OpError("input 'axes' holds " + std::to_string(axes[i]) + ", expected an axis of " + to_string(x) +
                    ". Correct the model.");
    }
    pads[static_cast<std::size_t>(axis)] = given[i];
    pads[static_cast<std::size_t>(axis) + rank] = given[i + axes.size()];
  }
}

void PadBase::pad(const KernelContext& context, std::size_t element_size, const void* fill) const {
  const auto x = context.input<char>(0);
  const std::size_t rank = x.shape.size();
  std::vector<std::int64_t> pads;
  read_pads(context, x.shape, pads);
  Shape shape = x.shape;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t begin = pads[i], end = pads[i + rank];
    shape[i] += begin + end;
    const std::int64_t kept = x.shape[i] + std::min<std::int64_t>(0, begin) + std::min<std::int64_t>(0, end);
    const bool empty = shape[i] < 0 || (kept <= 0 && shape[i] > 0 && mode_ != "constant");
    const bool far = mode_ == "reflect" && std::max(begin, end) >= std::max<std::int64_t>(1, kept);
    if (empty || far) {
      throw OpError("input 'pads' is " + to_string(pads) + ", expected pads that fit mode \"" + mode_ + "\" and X " +
                    to_string(x.shape) + ". Correct the model.");
    }
  }
  checked_count(shape, "output 'Y'");
  const char zero[8] = {};
  if (fill == nullptr) fill = has_value_ ? context.input<char>(2).values.data : zero;
  const bool attribute = pads_attribute_ && !has_value_ && element_size == sizeof(float);  // of float, up to opset 10
  if (attribute && value_attribute_ != 0) fill = &value_attribute_;
  char* y = context.output<char>(0, shape).data;
  PadJob job{x.values.data, y, element_size, static_cast<const char*>(fill), x.shape, {}};
  for (std::size_t i = 0; i < rank; ++i) {
    job.shown.push_back(shown_positions(x.shape[i], pads[i], pads[i + rank], mode_));
  }
  if (element_count(shape) > 0) write_axis(job, 0, job.x, job.y);
}

IntegerPad::IntegerPad(const KernelInfo& info, const KernelTable&) : PadBase(info), offset_(find_offset(info, 0)) {
  if (offset_) provided_.emplace(info, *offset_);
}

void IntegerPad::compute(const KernelContext& context) const {
  if (!offset_) {  // not a quantized activation
    if (has_value_ && element_type(context, 2) != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8) {
      throw OpError("input 'constant_value' is not int8 like the data. Correct the model.");
    }
    return pad(context, 1, nullptr);
  }
  if (has_value_) {
    const auto value = context.input<char>(2).values.data;
    const std::size_t size = element_type(context, 2) == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 ? 1 : sizeof(float);
    if (std::any_of(value, value + size, [](char byte) { return byte != 0; })) {
      throw OpError("input 'constant_value' is not 0: padding behind AscendQuant counts as the real zero, and no other "
                    "value has a meaning there. Quantize behind the Pad.");
    }
  }
  const auto fill = static_cast<std::int8_t>(*offset_);
  pad(context, 1, &fill);
}

}  // namespace ort_quant
