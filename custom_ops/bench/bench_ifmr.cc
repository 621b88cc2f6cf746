// Times calibration and quantization on one thread, per instruction set. Usage: bench_ifmr [million values]

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "hfmg.h"
#include "ifmr.h"
#include "isa.h"
#include "stopwatch.h"

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
        bench::least_seconds([&] { ifmr(data, IfmrParams{}, *table, for_each_serial); }),
        bench::least_seconds([&] { ifmr(data, symmetric, *table, for_each_serial); }),
        bench::least_seconds([&] {
          Histogram histogram(4096);
          histogram.add(data, *table, for_each_serial);
          hfmg(histogram, HfmgParams{});
        }),
        bench::least_seconds([&] { table->scan(data.data, count); }),
        bench::least_seconds([&] { table->quantize_f32_f32(data.data, output.data(), count, params); }),
    };
    std::printf("%-8s", table->name);
    for (double time : times) std::printf(" %16.1f", millions / time);
    std::printf("\n");
  }
}
