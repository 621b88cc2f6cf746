// The general epilogue, part of the kernels of one instruction set; the rules of qtile-inl.h hold here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "qtile-inl.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace ort_quant {
namespace {

// All values of a tile while its program runs, one step after the other over the whole tile.
template <class Isa>
class TileFinish {
  using Floats = typename Isa::Floats;

 public:
  TileFinish(const FinishProgram& program, const OutputTensors& tensors, const TilePlace& place, float* tile,
             std::size_t stride)
      : program_(program), tensors_(tensors), place_(place), stride_(stride), whole_(place.channels / kLanes * kLanes) {
    values_[0] = tile;
  }

  void run() {
    for (std::size_t i = 0; i < program_.step_count; ++i) {
      apply(program_.steps[i], storage_[i]);
      values_[i + 1] = storage_[i];
    }
    const float* result = values_[program_.step_count];
    if (tensors_.y != nullptr) store_codes(result, program_.y, tensors_.y);
    if (tensors_.y2 != nullptr) store_codes(result, program_.y2, tensors_.y2);
    if (tensors_.y_float != nullptr) store_floats(result);
  }

 private:
  std::size_t offset(std::size_t row) const {  // of the tile's row in a channels-last tensor
    return place_.pixels[row] * tensors_.channels + place_.first_channel;
  }

  // An operand as rows of floats. What is the same in every row or lane is laid out once.
  class Source {
   public:
    Source(const TileFinish& tile, const Operand& operand) : tile_(tile), kind_(operand.kind) {
      switch (kind_) {
        case Operand::Kind::kValue: data_ = tile.values_[operand.index]; break;
        case Operand::Kind::kResidual: data_ = tile.tensors_.residuals[operand.index]; break;
        case Operand::Kind::kChannelConstant:
          data_ = tile.program_.channel_constants + operand.index * tile.tensors_.channels + tile.place_.first_channel;
          break;
        case Operand::Kind::kLiteral:
          for (float* lanes = literals_; lanes < literals_ + kMaxTileWidth * kLanes; lanes += kLanes) {
            Floats::broadcast(operand.literal).store(lanes);
          }
          data_ = literals_;
      }
    }

    const float* row(std::size_t row) const {
      if (kind_ == Operand::Kind::kValue) return data_ + row * tile_.stride_;
      return kind_ == Operand::Kind::kResidual ? data_ + tile_.offset(row) : data_;
    }

   private:
    const TileFinish& tile_;
    const Operand::Kind kind_;
    const float* data_;
    float literals_[kMaxTileWidth * kLanes];
  };

  template <class F>
  void binary(const Step& step, float* target, F f) const {
    const Source a(*this, step.a);
    const Source b(*this, step.b);
    const std::size_t rest = place_.channels - whole_;
    for (std::size_t row = 0; row < place_.rows; ++row, target += stride_) {
      const float* left = a.row(row);
      const float* right = b.row(row);
      for (std::size_t i = 0; i < whole_; i += kLanes) {
        f(Floats::load(left + i), Floats::load(right + i)).store(target + i);
      }
      if (rest == 0) continue;
      f(Isa::load_first(left + whole_, rest), Isa::load_first(right + whole_, rest)).store(target + whole_);
    }
  }

  template <class F>
  void unary(const Step& step, float* target, F f) const {
    const Source a(*this, step.a);
    const std::size_t rest = place_.channels - whole_;
    for (std::size_t row = 0; row < place_.rows; ++row, target += stride_) {
      const float* from = a.row(row);
      for (std::size_t i = 0; i < whole_; i += kLanes) f(Floats::load(from + i)).store(target + i);
      if (rest != 0) f(Isa::load_first(from + whole_, rest)).store(target + whole_);
    }
  }

  void apply(const Step& step, float* target) const {
    const Floats low = Floats::broadcast(step.low);
    const Floats high = Floats::broadcast(step.high);
    const Floats zero = Floats::broadcast(0.0f);
    const Floats one = Floats::broadcast(1.0f);
    switch (step.op) {
      case StepOp::kAdd: return binary(step, target, [](Floats a, Floats b) { return a + b; });
      case StepOp::kSub: return binary(step, target, [](Floats a, Floats b) { return a - b; });
      case StepOp::kMul: return binary(step, target, [](Floats a, Floats b) { return a * b; });
      case StepOp::kDiv: return binary(step, target, [](Floats a, Floats b) { return Isa::divide(a, b); });
      case StepOp::kClip: return unary(step, target, [=](Floats a) { return min(high, max(low, a)); });
      case StepOp::kRelu: return unary(step, target, [=](Floats a) { return max(zero, a); });
      case StepOp::kLeakyRelu:
        return unary(step, target, [=](Floats a) { return Isa::where_negative(a, low * a, a); });
      case StepOp::kHardSigmoid:
        return unary(step, target, [=](Floats a) { return max(zero, min(one, low * a + high)); });
    }
  }

  // The offset is added after the bounds, which are integers, and after rounding: the same, without a second rounding.
  void store_codes(const float* values, const Quantizer& quantizer, std::uint8_t* y) const {
    const auto offset_of_code = static_cast<float>(quantizer.offset);
    const Floats scale = Floats::broadcast(quantizer.scale);
    const Floats lowest = Floats::broadcast(-128.0f - offset_of_code);
    const Floats highest = Floats::broadcast(127.0f - offset_of_code);
    const Floats code_zero = Floats::broadcast(-offset_of_code);
    const auto shift = Isa::broadcast_sum(quantizer.offset + 128);
    for (std::size_t row = 0; row < place_.rows; ++row) {
      const float* from = values + row * stride_;
      std::uint8_t* target = y + offset(row);
      for (std::size_t i = 0; i < place_.channels; i += kLanes) {
        const Floats scaled = min(highest, max(lowest, Floats::load(from + i) * scale));
        const typename Isa::Sums codes[] = {Isa::round(Isa::where_nan(scaled, code_zero))};
        const std::size_t left = place_.channels - i;
        Isa::template store_codes<1>(codes, shift, target + i, left < kLanes ? left : kLanes);
      }
    }
  }

  void store_floats(const float* values) const {
    if (program_.float_layout == FloatLayout::kChannelsFirst) return store_planes(values);
    for (std::size_t row = 0; row < place_.rows; ++row) {
      const float* from = values + row * stride_;
      float* target = tensors_.y_float + offset(row);
      for (std::size_t i = 0; i < whole_; i += kLanes) Floats::load(from + i).store(target + i);
      for (std::size_t i = whole_; i < place_.channels; ++i) target[i] = from[i];
    }
  }

  void store_planes(const float* values) const {
    float* start[kMaxTileValues / kLanes];
    std::size_t image = place_.pixels[0] / tensors_.plane;
    for (std::size_t row = 0; row < place_.rows; ++row) {
      std::size_t position = place_.pixels[row] - image * tensors_.plane;
      if (position >= tensors_.plane) {
        image = place_.pixels[row] / tensors_.plane;
        position = place_.pixels[row] % tensors_.plane;
      }
      start[row] = tensors_.y_float + (image * tensors_.channels + place_.first_channel) * tensors_.plane + position;
    }
    std::size_t row = 0;
    for (; row + 4 <= place_.rows && start[row] + 3 == start[row + 3]; row += 4) {
      store_four_rows(values + row * stride_, start[row]);
    }
    for (; row < place_.rows; ++row) store_row(values + row * stride_, 0, start[row]);
  }

  void store_row(const float* values, std::size_t first, float* target) const {
    for (std::size_t i = first; i < place_.channels; ++i) target[i * tensors_.plane] = values[i];
  }

  // Four neighbours in every plane, four planes at a time.
  void store_four_rows(const float* values, float* target) const {
    std::size_t i = 0;
#if defined(__SSE__)
    for (; i + 4 <= place_.channels; i += 4) {
      __m128 a = _mm_loadu_ps(values + i), b = _mm_loadu_ps(values + stride_ + i);
      __m128 c = _mm_loadu_ps(values + 2 * stride_ + i), d = _mm_loadu_ps(values + 3 * stride_ + i);
      _MM_TRANSPOSE4_PS(a, b, c, d);
      float* planes = target + i * tensors_.plane;
      _mm_storeu_ps(planes, a);
      _mm_storeu_ps(planes + tensors_.plane, b);
      _mm_storeu_ps(planes + 2 * tensors_.plane, c);
      _mm_storeu_ps(planes + 3 * tensors_.plane, d);
    }
#endif
    for (std::size_t r = 0; r < 4; ++r) store_row(values + r * stride_, i, target + r);
  }

  const FinishProgram program_;  // copies: for all the compiler knows, storing bytes could change the originals
  const OutputTensors tensors_;
  const TilePlace place_;
  const std::size_t stride_;
  const std::size_t whole_;  // columns in full vectors
  const float* values_[kMaxSteps + 1];
  alignas(64) float storage_[kMaxSteps][kMaxTileValues];
};

template <class Isa>
void finish_tile(const FinishProgram& program, const OutputTensors& tensors, const TilePlace& place, float* tile,
                 std::size_t stride) {
  TileFinish<Isa>(program, tensors, place, tile, stride).run();
}

template <class Isa>
constexpr QuantizedKernels make_quantized_kernels() {
  QuantizedKernels kernels{};
  list_tiles<Isa, 1>(kernels.tiles[0]);
  list_tiles<Isa, 2>(kernels.tiles[1]);
  list_tiles<Isa, 3>(kernels.tiles[2]);
  list_tiles<Isa, 4>(kernels.tiles[3]);
  kernels.signed_activations = Isa::kSignedActivations;
  kernels.finish_tile = finish_tile<Isa>;
  return kernels;
}

}  // namespace
}  // namespace ort_quant
