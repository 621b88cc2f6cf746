// The oracle of the int8 convolutions: loops over the definition, nothing else.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "epilogue.h"
#include "qconv.h"

namespace ort_quant::reference {

struct ConvCase {
  ConvShape shape;
  ConvGeometry geometry;
  std::int32_t x_offset = 0;
  std::vector<std::uint8_t> x;
  std::vector<std::int8_t> weights;
  std::vector<float> deq;
  std::vector<std::int32_t> bias;
  std::string epilogue;
  std::vector<float> channel_constants;
  std::vector<float> residuals[kMaxResiduals];
  OutputSpec outputs;
};

inline std::size_t volume(const Dims& dims) { return dims[0] * dims[1] * dims[2]; }

template <class F>
void for_each_position(const Dims& dims, F f) {
  for (std::size_t d = 0; d < dims[0]; ++d) {
    for (std::size_t h = 0; h < dims[1]; ++h) {
      for (std::size_t w = 0; w < dims[2]; ++w) f(Dims{d, h, w}, (d * dims[1] + h) * dims[2] + w);
    }
  }
}

// Where `from` and a tap meet on the other side; false if that is outside of it.
inline bool meets(const ConvCase& c, const Dims& from, const Dims& tap, const Dims& size, Dims& to) {
  for (std::size_t d = 0; d < 3; ++d) {
    const auto position = static_cast<std::ptrdiff_t>(from[d] * c.shape.strides[d] + tap[d] * c.shape.dilations[d]) -
                          c.geometry.pads_begin[d];
    if (position < 0 || position >= static_cast<std::ptrdiff_t>(size[d])) return false;
    to[d] = static_cast<std::size_t>(position);
  }
  return true;
}

// The int32 sums, [batch, out…, M].
inline std::vector<std::int32_t> sums(const ConvCase& c) {
  const ConvShape& shape = c.shape;
  const std::size_t group_in = shape.channels_in / shape.group;
  const std::size_t group_out = shape.channels_out / shape.group;
  const std::size_t taps = volume(shape.kernel);
  std::vector<std::uint32_t> sums(c.geometry.batch * volume(c.geometry.out) * shape.channels_out);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = c.bias.empty() ? 0u : static_cast<std::uint32_t>(c.bias[i % shape.channels_out]);
  }
  // The walk is over the outputs of a convolution, over the inputs of a transposed one.
  const Dims& walked = shape.transposed ? c.geometry.in : c.geometry.out;
  const Dims& met = shape.transposed ? c.geometry.out : c.geometry.in;
  for (std::size_t image = 0; image < c.geometry.batch; ++image) {
    for_each_position(walked, [&](const Dims& at, std::size_t at_index) {
      for_each_position(shape.kernel, [&](const Dims& tap, std::size_t tap_index) {
        Dims to;
        if (!meets(c, at, tap, met, to)) return;
        const std::size_t to_index = (to[0] * met[1] + to[1]) * met[2] + to[2];
        const std::size_t in = image * volume(c.geometry.in) + (shape.transposed ? at_index : to_index);
        const std::size_t out = image * volume(c.geometry.out) + (shape.transposed ? to_index : at_index);
        for (std::size_t m = 0; m < shape.channels_out; ++m) {
          std::int32_t sum = 0;
          for (std::size_t k = 0; k < group_in; ++k) {
            const std::size_t channel = m / group_out * group_in + k;
            const std::size_t filter = shape.transposed ? channel * group_out + m % group_out : m * group_in + k;
            sum += (c.x[in * shape.channels_in + channel] - 128 - c.x_offset) * c.weights[filter * taps + tap_index];
          }
          sums[out * shape.channels_out + m] += static_cast<std::uint32_t>(sum);
        }
      });
    });
  }
  std::vector<std::int32_t> result(sums.size());
  std::transform(sums.begin(), sums.end(), result.begin(),
                 [](std::uint32_t sum) { return static_cast<std::int32_t>(sum); });
  return result;
}

inline float apply(const Step& step, float a, float b) {
  const auto largest = [](float x, float y) { return std::isnan(y) ? y : x > y ? x : y; };
  const auto least = [](float x, float y) { return std::isnan(y) ? y : x < y ? x : y; };
  switch (step.op) {
    case StepOp::kAdd: return a + b;
    case StepOp::kSub: return a - b;
    case StepOp::kMul: return a * b;
    case StepOp::kDiv: return a / b;
    case StepOp::kClip: return least(step.high, largest(step.low, a));
    case StepOp::kRelu: return largest(0.0f, a);
    case StepOp::kLeakyRelu: return a < 0.0f ? step.low * a : a;
    case StepOp::kHardSigmoid: return largest(0.0f, least(1.0f, step.low * a + step.high));
  }
  return 0.0f;
}

// What the outputs are made from, at one position of the channels-last result.
inline float result(const ConvCase& c, const Epilogue& epilogue, std::int32_t sum, std::size_t index) {
  const std::size_t channels = c.shape.channels_out;
  const std::size_t channel = index % channels;
  std::vector<float> values{static_cast<float>(sum) * c.deq[c.deq.size() == 1 ? 0 : channel]};
  const auto operand = [&](const Operand& from) {
    switch (from.kind) {
      case Operand::Kind::kValue: return values[from.index];
      case Operand::Kind::kResidual: return c.residuals[from.index][index];
      case Operand::Kind::kChannelConstant: return c.channel_constants[from.index * channels + channel];
      case Operand::Kind::kLiteral: break;
    }
    return from.literal;
  };
  for (const Step& step : epilogue.steps()) values.push_back(apply(step, operand(step.a), operand(step.b)));
  return values.back();
}

inline std::uint8_t quantized(float value, const Quantizer& quantizer) {
  const float code = std::nearbyint(value * quantizer.scale) + static_cast<float>(quantizer.offset);
  return std::isnan(code) ? 128 : static_cast<std::uint8_t>(std::clamp(code, -128.0f, 127.0f) + 128.0f);
}

}  // namespace ort_quant::reference
