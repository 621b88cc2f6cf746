// Times the feeding of a sketch on one thread, per instruction set and kind of data.
// Usage: bench_sketch [thousand values per tensor] [tensors]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "isa.h"
#include "sketch.h"
#include "stopwatch.h"

int main(int argc, char** argv) {
  using namespace ort_quant;
  const std::size_t count = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100) * 1000;
  const std::size_t tensors = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 46;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  struct Data {
    const char* name;
    std::function<float()> next;
  };
  const Data kinds[] = {
      {"gaussian", [&] { return normal(random); }},
      {"relu", [&] { return std::max(normal(random), 0.0f); }},
      {"relu6", [&] { return std::clamp(normal(random) * 4 + 3, 0.0f, 6.0f); }},  // a quarter at either end
      {"constant", [] { return 1.5f; }},
      {"zeros", [] { return 0.0f; }},
  };

  std::printf("%zu tensors of %zu values, ns per value\n%-8s", tensors, count, "isa");
  for (const Data& kind : kinds) std::printf(" %10s", kind.name);
  std::printf(" %10s %10s\n", "gauss f16", "channels");
  std::vector<std::vector<float>> sets;
  for (const Data& kind : kinds) {
    sets.emplace_back(count * tensors);
    std::generate(sets.back().begin(), sets.back().end(), kind.next);
  }
  std::vector<Half> half(count * tensors);
  std::transform(sets[0].begin(), sets[0].end(), half.begin(), float_to_half);

  for (const KernelTable* table : available_kernels()) {
    const auto time = [&](const auto& values, ChannelLayout layout) {
      std::vector<Sketch> sketches(tensors);
      std::vector<double> least(tensors, std::numeric_limits<double>::infinity());
      for (int repeat = 0; repeat < 25; ++repeat) {
        for (std::size_t i = 0; i < tensors; ++i) {
          const auto add = [&] { sketches[i].add({values.data() + i * count, count}, *table, for_each_serial, layout); };
          least[i] = std::min(least[i], bench::least_seconds(add, 1));
        }
      }
      const double spent = std::accumulate(least.begin(), least.end(), 0.0);
      std::printf(" %10.3f", spent * 1e9 / static_cast<double>(count * tensors));
    };
    std::printf("%-8s", table->name);
    for (const std::vector<float>& values : sets) time(values, ChannelLayout{});
    time(half, ChannelLayout{});
    time(sets[0], ChannelLayout{count / 1000, 1000});
    std::printf("\n");
  }
}
