// IFMR and HFMG on a sketch instead of all values: constant memory, float64. The twins of
// ort_quant_plugin/calibration/methods/{ifmr,hfmg}.py.
#pragma once

#include "distribution.h"
#include "hfmg.h"
#include "ifmr.h"
#include "range.h"

namespace ort_quant {

// (1) to (4) of ifmr.h with the bounds taken from the sketch, within one bin, and the loss from the centres of its bins;
// zeros cost nothing. For more than 8 bits, where a bin may hold several steps, rounding costs S²/12 a value.
Range ifmr(const Distribution& distribution, const IfmrParams& params, const ForEach& for_each);

// The search of hfmg.h on the histogram of params.bins over [min, max] that the sketch stands for, its counts rounded
// down at the edges of bins. For more than 8 bits, where cells are narrower than bins, rounding costs d²/12 a value.
Range hfmg(const Distribution& distribution, const HfmgParams& params);

}  // namespace ort_quant
