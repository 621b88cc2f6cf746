// Convolution, transposed convolution and matrix product of uint8 activations (channels last) and int8 weights.
//
//   acc[m] = bias[m] + Σ (u − z)·w[m, …] in int32 (wrapping), z = x_offset + 128; padding counts as u = z
//   y      = float(acc)·deq[m], then the epilogue
//
// The weights are packed once, when the object is made. Results do not depend on the instruction set or on how many
// threads work.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "epilogue.h"
#include "kernel_table.h"
#include "range.h"
#include "span.h"

namespace ort_quant {

// Depth, height, width; leading ones where a layer has fewer dimensions.
using Dims = std::array<std::size_t, 3>;

// What a layer is, whatever it is fed.
struct ConvShape {
  std::size_t channels_in = 0;
  std::size_t channels_out = 0;
  std::size_t group = 1;
  Dims kernel{1, 1, 1};
  Dims strides{1, 1, 1};
  Dims dilations{1, 1, 1};
  bool transposed = false;
};

// The sizes of one run. Output pixel o and tap k meet input pixel o·stride − pad + k·dilation, or, transposed, input
// pixel i where o = i·stride − pad + k·dilation.
struct ConvGeometry {
  std::size_t batch = 1;
  Dims in{1, 1, 1};
  Dims out{1, 1, 1};
  std::array<std::ptrdiff_t, 3> pads_begin{0, 0, 0};
};

class PackedConv {
 public:
  // weights: [M, C/group, k…], transposed [C, M/group, k…]. A matrix product with B [K, N] is the transposed 1×1 form
  // with channels_in = K, channels_out = N; its rows are the batch. deq: M values or one. bias: M values or none.
  // Sizes must agree and be greater than zero.
  PackedConv(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
             Span<const std::int32_t> bias, std::int32_t x_offset, Epilogue epilogue, const OutputSpec& outputs,
             const KernelTable& kernels);
  PackedConv(PackedConv&&) noexcept;
  PackedConv& operator=(PackedConv&&) noexcept;
  ~PackedConv();

  const ConvShape& shape() const;

  // x: [batch, in…, C]; the outputs: [batch, out…, M]. `outputs.channels` and `outputs.plane` are filled in here.
  // Allocates nothing. May run on several threads at once.
  void run(const ConvGeometry& geometry, const std::uint8_t* x, OutputTensors outputs, const ForEach& for_each) const;

 private:
  struct State;
  std::unique_ptr<const State> state_;
};

}  // namespace ort_quant
