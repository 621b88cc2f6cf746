// Data that several tests use.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

namespace ort_quant {

inline constexpr std::size_t kLengths[] = {0, 1, 2, 3, 15, 16, 17, 31, 33, 2047, 2048, 2049, 4095, 4096, 4097};
inline constexpr std::size_t kOffsets[] = {0, 1, 3};  // elements past the alignment of the allocation

// Ordinary values, rounding ties, and everything that is special about floats.
inline std::vector<float> interesting_values(std::size_t count, unsigned seed) {
  static const float kSpecial[] = {0.0f,     -0.0f,    0.5f,      -0.5f,    1.5f,      2.5f,     -2.5f,     0.49999997f,
                                   8388607.5f, 8388609.0f, -4194304.5f, 1e30f, -1e30f,  1e-30f,   1e-42f,    65504.0f,
                                   65520.0f, 6.1e-5f,  5.96e-8f,  3e9f,     -3e9f,     127.5f,   -128.5f,   32768.0f,
                                   std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                   std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 50.0f);
  std::vector<float> values(count);
  for (float& value : values) {
    const auto pick = random() % 8;
    if (pick == 0) {
      value = kSpecial[random() % (sizeof kSpecial / sizeof *kSpecial)];
    } else if (pick == 1) {
      value = std::round(normal(random)) + 0.5f;
    } else {
      value = normal(random);
    }
  }
  return values;
}

inline std::vector<float> normal_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.1f, 2.0f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace ort_quant
