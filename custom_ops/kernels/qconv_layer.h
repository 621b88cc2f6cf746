// A dense or grouped convolution whose weights are packed, and the running of its phases.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "qconv.h"
#include "qindirection.h"
#include "qkernels.h"
#include "qpack.h"

namespace ort_quant {

struct ConvLayer {
  ConvLayer(const ConvShape& shape, Span<const std::int8_t> weights, Span<const float> deq,
            Span<const std::int32_t> bias, std::int32_t x_offset, const Epilogue& epilogue, const OutputSpec& outputs,
            const KernelTable& kernels);

  void run(const ConvGeometry& geometry, const std::uint8_t* x, const FinishProgram& program,
           const OutputTensors& outputs, const ForEach& for_each) const;

  ConvShape shape;
  const QuantizedKernels& kernels;
  // Few input channels: the taps of a line are packed as one, with the channels of all of them. They are neighbours in
  // the input, and only lines that are partly padding need copying.
  bool lines;
  PackedWeights packed;
  std::vector<std::uint8_t> padding;  // a pixel or a line
  // The epilogue, if it is one for registers; both are missing otherwise.
  std::optional<CodesEnd> codes;
  std::optional<ResultsEnd> results;
};

}  // namespace ort_quant
