// The oracle: every kernel as the obvious loop over its formula. Slow on purpose, used by the tests only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hfmg.h"
#include "ifmr.h"
#include "kernel_table.h"

namespace ort_quant::reference {

float quantize(float x, const QuantizeParams& params);
std::int8_t quantize_int8(float x, const QuantizeParams& params);
float dequantize(float x, const DequantizeParams& params);
ScanResult scan(const float* x, std::size_t count);

// floor(x·2^-exponent). Double precision has room for the product of any float.
std::int32_t sketch_bin(float x, int exponent);

// Moments of finite values, added up one by one.
BlockMoments moments(const float* x, std::size_t count);

// Σ (x̂ − x)² of one candidate in double precision, with a true division: the value that the fast kernel's float32
// sums approximate.
double candidate_loss(const float* x, std::size_t count, const CandidateGrid& grid, std::size_t candidate);

// IFMR by full sorting and `candidate_loss`.
Range ifmr(std::vector<float> values, const IfmrParams& params);

}  // namespace ort_quant::reference
