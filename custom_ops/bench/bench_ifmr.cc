// Times calibration and quantization on one thread, per instruction set. Usage: bench_ifmr [million values]

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "hfmg.h"
#include "ifmr.h"
#include "isa.h"

namespace {

template <class F>
double seconds(F f) {
  double best = 1e300;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = spent.count() < best ? spent.count() : best;
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ort_quant;
  const std::size_t count = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20) * 1000000;
  std::vector<float> values(count);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (float& value : values) value = normal(random);
  const Span<const float> data{values.data(), count};
  std::vector<float> output(count);
  const double millions = static_cast<double>(count) * 1e-6;

  std::printf("%-8s %16s %16s %16s %16s %16s   (million values per second)\n", "isa", "ifmr asym", "ifmr sym", "hfmg", "scan",
              "quantize");
  for (const KernelTable* table : available_kernels()) {
    IfmrParams symmetric;
    symmetric.asymmetric = false;
    const QuantizeParams params{30.0f, 3.0f, -128.0f, 127.0f, false};
    const double times[] = {
        seconds([&] { ifmr(data, IfmrParams{}, *table, for_each_serial); }),
        seconds([&] { ifmr(data, symmetric, *table, for_each_serial); }),
        seconds([&] {
          Histogram histogram(4096);
          histogram.add(data, *table, for_each_serial);
          hfmg(histogram, HfmgParams{});
        }),
        seconds([&] { table->scan(data.data, count); }),
        seconds([&] { table->quantize_f32_f32(data.data, output.data(), count, params); }),
    };
    std::printf("%-8s", table->name);
    for (double time : times) std::printf(" %16.1f", millions / time);
    std::printf("\n");
  }
}
