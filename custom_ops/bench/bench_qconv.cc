// Speed of the int8 convolutions, layer by layer, beside the peak of the machine's int8 products.
// Usage: bench_qconv [batch] [isa] [name of the layers to time]
//        bench_qconv --peak
//
// Times are the least of many runs. The peak is that of vpdpbusd on registers alone; without it there is no share.

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "isa.h"
#include "qconv.h"
#include "stopwatch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using namespace ort_quant;

struct Layer {
  const char* name;
  std::size_t in, out, kernel, stride, size, group;
  std::size_t times;  // how often the network has it
};

// Input channels, output channels, kernel, stride, input size, groups, occurrences.
const Layer kEfficientNetLite0[] = {
    {"stem", 3, 32, 3, 2, 224, 1, 1},         {"1 project", 32, 16, 1, 1, 112, 1, 1},
    {"2 expand", 16, 96, 1, 1, 112, 1, 1},    {"2 project", 96, 24, 1, 1, 56, 1, 1},
    {"2 expand", 24, 144, 1, 1, 56, 1, 2},    {"2 project", 144, 24, 1, 1, 56, 1, 1},
    {"3 project", 144, 40, 1, 1, 28, 1, 1},   {"3 expand", 40, 240, 1, 1, 28, 1, 2},
    {"3 project", 240, 40, 1, 1, 28, 1, 1},   {"4 project", 240, 80, 1, 1, 14, 1, 1},
    {"4 expand", 80, 480, 1, 1, 14, 1, 3},    {"4 project", 480, 80, 1, 1, 14, 1, 2},
    {"5 project", 480, 112, 1, 1, 14, 1, 1},  {"5 expand", 112, 672, 1, 1, 14, 1, 3},
    {"5 project", 672, 112, 1, 1, 14, 1, 2},  {"6 project", 672, 192, 1, 1, 7, 1, 1},
    {"6 expand", 192, 1152, 1, 1, 7, 1, 4},   {"6 project", 1152, 192, 1, 1, 7, 1, 3},
    {"7 project", 1152, 320, 1, 1, 7, 1, 1},  {"head", 320, 1280, 1, 1, 7, 1, 1},
    {"classes", 1280, 1000, 1, 1, 1, 1, 1},
};

const Layer kEfficientNetLite0Depthwise[] = {
    {"1 depthwise", 32, 32, 3, 1, 112, 32, 1},     {"2 depthwise", 96, 96, 3, 2, 112, 96, 1},
    {"2 depthwise", 144, 144, 3, 1, 56, 144, 1},   {"3 depthwise", 144, 144, 5, 2, 56, 144, 1},
    {"3 depthwise", 240, 240, 5, 1, 28, 240, 1},   {"4 depthwise", 240, 240, 3, 2, 28, 240, 1},
    {"4 depthwise", 480, 480, 3, 1, 14, 480, 2},   {"5 depthwise", 480, 480, 5, 1, 14, 480, 1},
    {"5 depthwise", 672, 672, 5, 1, 14, 672, 2},   {"6 depthwise", 672, 672, 5, 2, 14, 672, 1},
    {"6 depthwise", 1152, 1152, 5, 1, 7, 1152, 3}, {"7 depthwise", 1152, 1152, 3, 1, 7, 1152, 1},
};

const Layer kResNet50[] = {
    {"stem", 3, 64, 7, 2, 224, 1, 1},          {"2 reduce", 64, 64, 1, 1, 56, 1, 1},
    {"2 3x3", 64, 64, 3, 1, 56, 1, 3},         {"2 expand", 64, 256, 1, 1, 56, 1, 4},
    {"2 reduce", 256, 64, 1, 1, 56, 1, 2},     {"3 reduce", 256, 128, 1, 1, 56, 1, 1},
    {"3 3x3 s2", 128, 128, 3, 2, 56, 1, 1},    {"3 shortcut", 256, 512, 1, 2, 56, 1, 1},
    {"3 3x3", 128, 128, 3, 1, 28, 1, 3},       {"3 expand", 128, 512, 1, 1, 28, 1, 4},
    {"3 reduce", 512, 128, 1, 1, 28, 1, 3},    {"4 reduce", 512, 256, 1, 1, 28, 1, 1},
    {"4 3x3 s2", 256, 256, 3, 2, 28, 1, 1},    {"4 shortcut", 512, 1024, 1, 2, 28, 1, 1},
    {"4 3x3", 256, 256, 3, 1, 14, 1, 5},       {"4 expand", 256, 1024, 1, 1, 14, 1, 6},
    {"4 reduce", 1024, 256, 1, 1, 14, 1, 5},   {"5 reduce", 1024, 512, 1, 1, 14, 1, 1},
    {"5 3x3 s2", 512, 512, 3, 2, 14, 1, 1},    {"5 shortcut", 1024, 2048, 1, 2, 14, 1, 1},
    {"5 3x3", 512, 512, 3, 1, 7, 1, 2},        {"5 expand", 512, 2048, 1, 1, 7, 1, 3},
    {"5 reduce", 2048, 512, 1, 1, 7, 1, 2},    {"classes", 2048, 1000, 1, 1, 1, 1, 1},
};

// The layers that end a residual block: float32 for the next block's addition beside the codes for its convolutions.
const Layer kResidualLayers[] = {
    {"2 block", 64, 256, 1, 1, 56, 1, 3},    {"3 block", 128, 512, 1, 1, 28, 1, 4},
    {"4 block", 256, 1024, 1, 1, 14, 1, 6},  {"5 block", 512, 2048, 1, 1, 7, 1, 3},
    {"lite 3", 240, 40, 1, 1, 28, 1, 1},     {"lite 5", 672, 112, 1, 1, 14, 1, 2},
};

#if defined(__x86_64__)
constexpr std::size_t kChains = 20;
constexpr std::size_t kRounds = 20000;

__attribute__((target("avx512f,avx512vnni"), noinline)) void multiply_registers() {
  __m512i sums[kChains];
#pragma GCC unroll 20
  for (std::size_t i = 0; i < kChains; ++i) sums[i] = _mm512_setzero_si512();
  for (std::size_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 20
    for (std::size_t i = 0; i < kChains; ++i) __asm__ volatile("vpdpbusd %0, %0, %0" : "+v"(sums[i]));
  }
}

double peak_products_per_second() {
  if (!__builtin_cpu_supports("avx512vnni")) return HUGE_VAL;
  return 64.0 * kChains * kRounds / bench::least_seconds(multiply_registers, 300);
}
#else
double peak_products_per_second() { return HUGE_VAL; }
#endif

// Two threads that take blocks in turn; the second one waits busily, as ONNX Runtime's do.
class TwoThreads {
 public:
  TwoThreads() : helper_([this] { help(); }) {}
  ~TwoThreads() {
    stop_ = true;
    helper_.join();
  }

  void for_each(std::size_t count, const std::function<void(std::size_t)>& body) {
    body_ = &body;
    count_ = count;
    next_ = 0;
    pending_ = true;
    take();
    while (pending_) std::this_thread::yield();
  }

 private:
  void take() {
    for (std::size_t i = next_++; i < count_; i = next_++) (*body_)(i);
  }
  void help() {
    while (!stop_) {
      if (!pending_) {
        std::this_thread::yield();
        continue;
      }
      take();
      pending_ = false;
    }
  }

  const std::function<void(std::size_t)>* body_ = nullptr;
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> pending_{false};
  std::atomic<bool> stop_{false};
  std::thread helper_;
};

struct Fixture {
  Fixture(const Layer& layer, bool residual, std::size_t batch, const KernelTable& kernels) {
    const std::size_t out = (layer.size - 1) / layer.stride + 1;
    const std::size_t pad = layer.kernel / 2;
    shape.channels_in = layer.in;
    shape.channels_out = layer.out;
    shape.group = layer.group;
    shape.kernel = {1, layer.kernel, layer.kernel};
    shape.strides = {1, layer.stride, layer.stride};
    geometry.batch = batch;
    geometry.in = {1, layer.size, layer.size};
    geometry.out = {1, out, out};
    geometry.pads_begin = {0, static_cast<std::ptrdiff_t>(pad), static_cast<std::ptrdiff_t>(pad)};
    std::mt19937 random(1);
    const std::size_t depth = layer.in / layer.group * layer.kernel * layer.kernel;
    std::vector<std::int8_t> weights(layer.out * depth);
    for (auto& w : weights) w = static_cast<std::int8_t>(random());
    x.resize(batch * layer.size * layer.size * layer.in);
    for (auto& value : x) value = static_cast<std::uint8_t>(random());
    y.resize(batch * out * out * layer.out);
    const std::vector<float> deq(layer.out, 1e-3f);
    const std::vector<std::int32_t> bias(layer.out, 10);
    OutputSpec outputs;
    outputs.y = Quantizer{42.5f, -128};
    outputs.y_float = residual;
    tensors.y = y.data();
    if (residual) {
      y_float.resize(y.size());
      addend.assign(y.size() + 528, 0.5f);
      tensors.y_float = y_float.data();
      tensors.residuals[0] = addend.data() + 528;  // off the same places in their pages as y_float
    }
    conv = std::make_unique<PackedConv>(shape, Span<const std::int8_t>{weights.data(), weights.size()},
                                        Span<const float>{deq.data(), deq.size()},
                                        Span<const std::int32_t>{bias.data(), bias.size()}, -3,
                                        Epilogue::parse(residual ? "add 0 r0; relu 1" : "clip 0 0 6"), outputs,
                                        kernels);
    products = static_cast<double>(y.size()) * static_cast<double>(depth);
  }

  void run(const ForEach& for_each) {
    conv->run(geometry, x.data(), tensors, for_each);
  }

  ConvShape shape;
  ConvGeometry geometry;
  std::vector<std::uint8_t> x, y;
  std::vector<float> y_float, addend;
  OutputTensors tensors;
  std::unique_ptr<PackedConv> conv;
  double products;
};

double least_run(Fixture& fixture, const ForEach& for_each) {
  const double once = bench::least_seconds([&] { fixture.run(for_each); });
  return bench::least_seconds([&] { fixture.run(for_each); }, static_cast<int>(std::min(2000.0, 20 + 0.1 / once)));
}

template <std::size_t Count>
void time_network(const char* name, const Layer (&layers)[Count], bool residual, std::size_t batch,
                  const KernelTable& kernels, double peak, const ForEach& two_threads, const std::string& wanted) {
  std::printf("\n%s, batch %zu\n%-12s %5s %5s %2s %2s %4s %3s %10s %8s %6s %8s\n", name, batch, "layer", "in", "out",
              "k", "s", "size", "x", "us", "GMAC/s", "peak", "2 thr");
  double total = 0.0, total_two = 0.0, total_products = 0.0;
  for (const Layer& layer : layers) {
    if (std::string(layer.name).find(wanted) == std::string::npos) continue;
    Fixture fixture(layer, residual, batch, kernels);
    const double one = least_run(fixture, for_each_serial);
    const double two = least_run(fixture, two_threads);
    const auto times = static_cast<double>(layer.times);
    total += one * times;
    total_two += two * times;
    total_products += fixture.products * times;
    std::printf("%-12s %5zu %5zu %2zu %2zu %4zu %3zu %10.1f %8.1f %5.0f%% %7.2fx\n", layer.name, layer.in, layer.out,
                layer.kernel, layer.stride, layer.size, layer.times, one * 1e6, fixture.products / one * 1e-9,
                100 * fixture.products / one / peak, one / two);
  }
  std::printf("%-42s %10.1f %8.1f %5.0f%% %7.2fx\n", "all", total * 1e6, total_products / total * 1e-9,
              100 * total_products / total / peak, total / total_two);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--peak") {
    std::printf("peak of vpdpbusd on registers: %.1f GMAC/s\n", peak_products_per_second() * 1e-9);
    return 0;
  }
  const std::size_t batch = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const KernelTable& kernels = select_kernels(argc > 2 ? argv[2] : nullptr);
  const std::string wanted = argc > 3 ? argv[3] : "";
  const double peak = peak_products_per_second();
  TwoThreads two;
  const ForEach two_threads = [&](std::size_t count, const std::function<void(std::size_t)>& body) {
    two.for_each(count, body);
  };
  std::printf("%s; peak of vpdpbusd on registers: %.1f GMAC/s\n", kernels.name, peak * 1e-9);
  time_network("EfficientNet-Lite0", kEfficientNetLite0, false, batch, kernels, peak, two_threads, wanted);
  time_network("EfficientNet-Lite0, depthwise", kEfficientNetLite0Depthwise, false, batch, kernels, peak, two_threads,
               wanted);
  time_network("ResNet-50", kResNet50, false, batch, kernels, peak, two_threads, wanted);
  time_network("with residual, float32 and uint8", kResidualLayers, true, batch, kernels, peak, two_threads, wanted);
}
