// What a fused op does between its float32 result and its outputs: a short program of element-wise steps, then float32
// and quantized copies. Each step is one float32 operation, as ONNX Runtime's own op does it.
//
//   code = clip(rint(y·scale) + offset, −128, 127), stored as code + 128; NaN becomes code 0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ort_quant {

inline constexpr std::size_t kMaxSteps = 16;
inline constexpr std::size_t kMaxResiduals = 2;

struct Operand {
  enum class Kind : std::uint8_t { kValue, kResidual, kChannelConstant, kLiteral };

  Kind kind = Kind::kValue;
  std::size_t index = 0;  // of the value, the residual input or the row of channel constants
  float literal = 0.0f;
};

// clip: min(max(a, low), high); relu: max(a, 0); leaky_relu: a ≥ 0 ? a : low·a;
// hard_sigmoid: max(min(low·a + high, 1), 0), product and sum rounded apart. NaN comes through everywhere.
enum class StepOp : std::uint8_t { kAdd, kSub, kMul, kDiv, kClip, kRelu, kLeakyRelu, kHardSigmoid };

struct Step {
  StepOp op;
  Operand a;
  Operand b;           // of add, sub, mul, div
  float low = 0.0f;    // the literals of the other ops, in the order they are written
  float high = 0.0f;
};

// Value 0 is the float32 result, value i that of step i; the last value is what the outputs get.
class Epilogue {
 public:
  Epilogue() = default;

  // Steps "<op> <operand> …" separated by ";": "clip 0 0 6; add 1 r0". An operand is the number of a value, r0 or r1
  // (a residual input), c0, c1, … (a row of `channel_constants`, row-major [rows, channels]) or a literal, told from
  // the number of a value by a point or an exponent ("0.5", "2.0", "1e3"). Bounds and factors are literals, also "inf".
  // Throws std::invalid_argument naming the step and what is wrong with it.
  static Epilogue parse(const std::string& text, std::vector<float> channel_constants = {}, std::size_t channels = 0);

  const std::vector<Step>& steps() const { return steps_; }
  std::size_t residuals() const { return residuals_; }  // how many residual inputs it reads: 0, 1 or 2
  const std::vector<float>& channel_constants() const { return constants_; }  // [rows, channels]

 private:
  std::vector<Step> steps_;
  std::vector<float> constants_;
  std::size_t residuals_ = 0;
};

struct Quantizer {
  float scale;          // 1/scale_d
  std::int32_t offset;  // −128 … 127
};

enum class FloatLayout : std::uint8_t { kChannelsLast, kChannelsFirst };

// Which outputs there are and how they are made.
struct OutputSpec {
  std::optional<Quantizer> y;
  bool y_float = false;
  FloatLayout float_layout = FloatLayout::kChannelsLast;
  std::optional<Quantizer> y2;
};

// The tensors of one run, channels last but for `y_float`, whose layout OutputSpec gives. Null where there is none.
struct OutputTensors {
  std::uint8_t* y = nullptr;
  float* y_float = nullptr;
  std::uint8_t* y2 = nullptr;
  const float* residuals[kMaxResiduals] = {nullptr, nullptr};
  std::size_t channels = 0;  // of a pixel
  std::size_t plane = 1;     // pixels of an image
};

// Epilogue and OutputSpec as the kernels of the tables read them: plain memory, which must outlive it.
struct FinishProgram {
  const Step* steps;
  std::size_t step_count;
  const float* channel_constants;
  Quantizer y;
  Quantizer y2;
  FloatLayout float_layout;
};

FinishProgram finish_program(const Epilogue& epilogue, const OutputSpec& outputs);

// Where a tile of results belongs: row r is pixel pixels[r] of the batch, column c is channel first_channel + c.
struct TilePlace {
  const std::size_t* pixels;
  std::size_t rows;
  std::size_t first_channel;
  std::size_t channels;
};

// The largest tile that the tables' `finish_tile` takes: rows times columns, the columns rounded up to 16.
inline constexpr std::size_t kMaxTileValues = 12 * 64;

}  // namespace ort_quant
