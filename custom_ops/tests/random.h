// Choices of the tests that make up their own layers.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <random>

namespace ort_quant {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  std::size_t upto(std::size_t least, std::size_t most) { return least + engine_() % (most - least + 1); }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[engine_() % choices.size()];
  }
  float normal(float deviation) { return std::normal_distribution<float>(0.0f, deviation)(engine_); }
  bool chance(std::size_t one_in) { return engine_() % one_in == 0; }

 private:
  std::mt19937 engine_;
};

}  // namespace ort_quant
