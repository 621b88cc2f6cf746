// Convolutions one after the other, run strip by strip: what lies between two of them stays in the cache.
//
// A strip is some rows of the last output and what they need of the maps before it. Rows that the next strip needs too
// are kept. Maps that are small enough as they are run whole, several images at a time. The bits are those of the
// convolutions run on whole maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "qconv.h"

namespace ort_quant {

inline constexpr std::size_t kMaxStages = 3;
inline constexpr std::size_t kChainBudget = 384 * 1024;  // of the second-level cache, for what lies between

class ConvChain {
 public:
  // Two-dimensional, not transposed. The `y` of each, which has no other output, is the input of the next.
  // A strip takes at most `budget` bytes between the stages, unless its one row needs more.
  explicit ConvChain(std::vector<PackedConv> stages, std::size_t budget = kChainBudget)
      : stages_(std::move(stages)), budget_(budget) {}

  // `geometries`: of the whole maps, one a stage. `x` and `outputs` as those of the first and the last stage; the
  // layout of `y_float` is channels last. Every thread keeps the memory of its largest strip. May run on several
  // threads at once.
  void run(const std::vector<ConvGeometry>& geometries, const std::uint8_t* x, const OutputTensors& outputs,
           const ForEach& for_each) const;

 private:
  std::vector<PackedConv> stages_;
  std::size_t budget_;
};

}  // namespace ort_quant
