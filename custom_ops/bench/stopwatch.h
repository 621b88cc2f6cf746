// Time of a piece of work: the least of several repeats, which the machine disturbed least.
#pragma once

#include <algorithm>
#include <chrono>
#include <limits>

namespace bench {

template <class F>
double least_seconds(F f, int repeats = 3) {
  double best = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count());
  }
  return best;
}

}  // namespace bench
