// Times the depthwise layers of EfficientNet-Lite0 and the border, pool and addition kernels, batch 1, one thread: the
// least of many runs, in µs.
// Usage: bench_layers [name of an instruction set]

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "depthwise.h"
#include "isa.h"
#include "layout.h"
#include "pool.h"
#include "qadd.h"
#include "stopwatch.h"

namespace {

using namespace ort_quant;

struct Layer {
  std::int64_t size;
  std::size_t channels;
  std::int64_t kernel;
  std::int64_t stride;
  std::size_t times;  // how often the network has it
};

constexpr Layer kLite0[] = {{112, 32, 3, 1, 1}, {112, 96, 3, 2, 1}, {56, 144, 3, 1, 1}, {56, 144, 5, 2, 1},
                            {28, 240, 5, 1, 1}, {28, 240, 3, 2, 1}, {14, 480, 3, 1, 2}, {14, 480, 5, 1, 1},
                            {14, 672, 5, 1, 2}, {14, 672, 5, 2, 1}, {7, 1152, 5, 1, 3}, {7, 1152, 3, 1, 1}};

// Memory as ONNX Runtime's allocator gives it.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t count) : memory_(count * sizeof(T) + 64), size_(count) {}

  T* data() {
    void* at = memory_.data();
    std::size_t space = memory_.size();
    return static_cast<T*>(std::align(64, size_ * sizeof(T), at, space));
  }
  std::size_t size() const { return size_; }

 private:
  std::vector<char> memory_;
  std::size_t size_;
};

template <class T>
std::vector<T> random_values(std::size_t count) {
  std::mt19937 random(1);
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(random());
  return values;
}

// Many runs, in bursts that fit between the interruptions of a busy machine.
template <class F>
double least_micros(F run) {
  return bench::least_seconds(run, 300) * 1e6;
}

double depthwise_micros(const Layer& layer, const KernelTable& table) {
  const auto taps = static_cast<std::size_t>(layer.kernel * layer.kernel);
  const auto weights = random_values<std::int8_t>(layer.channels * taps);
  const std::vector<float> deq(layer.channels, 1e-3f);
  const DepthwiseParams params{2, layer.channels, {layer.kernel, layer.kernel}, {layer.stride, layer.stride}, {1, 1},
                               {weights.data(), weights.size()}, {deq.data(), deq.size()}, {}, -128};
  const PackedDepthwise depthwise(params, table);
  const std::int64_t out = (layer.size + layer.stride - 1) / layer.stride;
  const std::int64_t pad = ((out - 1) * layer.stride + layer.kernel - layer.size) / 2;
  const WindowGeometry window{2, 1, layer.channels, {layer.size, layer.size}, {out, out}, {layer.kernel, layer.kernel},
                              {layer.stride, layer.stride}, {1, 1}, {pad, pad}};
  const auto values = random_values<std::uint8_t>(static_cast<std::size_t>(layer.size * layer.size) * layer.channels);
  Aligned<std::uint8_t> x(values.size()), y(static_cast<std::size_t>(out * out) * layer.channels);
  std::copy(values.begin(), values.end(), x.data());
  const LayerOutput output = LayerOutput::of(ByteOutput{y.data(), {42.5f, -128}, 0.0f, 6.0f});
  return least_micros([&] { depthwise.run(window, x.data(), output, for_each_serial); });
}

void bench_depthwise(const KernelTable& table) {
  double total = 0, total_mac = 0;
  for (const Layer& layer : kLite0) {
    const auto out = static_cast<double>((layer.size + layer.stride - 1) / layer.stride);
    const auto taps = static_cast<double>(layer.kernel * layer.kernel);
    const double mac = out * out * static_cast<double>(layer.channels) * taps;
    const double micros = depthwise_micros(layer, table);
    std::printf("  %3lld² x %4zu  k%lld s%lld  x%zu %8.1f µs %7.1f GMAC/s\n", static_cast<long long>(layer.size),
                layer.channels, static_cast<long long>(layer.kernel), static_cast<long long>(layer.stride), layer.times,
                micros, mac / micros * 1e-3);
    total += micros * static_cast<double>(layer.times);
    total_mac += mac * static_cast<double>(layer.times);
  }
  std::printf("  depthwise of EfficientNet-Lite0: %.1f µs, %.1f MMAC, %.1f GMAC/s\n", total, total_mac * 1e-6,
              total_mac / total * 1e-3);
}

void bench_borders(const KernelTable& table) {
  const auto line = [](const char* what, double micros) { std::printf("  %-34s %8.1f µs\n", what, micros); };
  const Planes image{1, 3, 224 * 224}, features{1, 64, 56 * 56};
  std::vector<float> values(static_cast<std::size_t>(features.channels * features.positions));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 509) * 0.01f - 2.5f;
  const auto bytes = random_values<std::uint8_t>(112 * 112 * 64);
  std::vector<std::uint8_t> y(bytes.size());
  std::vector<float> floats(values.size());
  const ByteQuantizer quantizer{40.0f, -10};
  const ByteDequantizer dequantizer{0.025f, -10};
  line("quantize 3 x 224², to channels last",
       least_micros([&] { quantize_planes(values.data(), y.data(), image, quantizer, table, for_each_serial); }));
  line("quantize 64 x 56², to channels last",
       least_micros([&] { quantize_planes(values.data(), y.data(), features, quantizer, table, for_each_serial); }));
  line("quantize 64 x 56²", least_micros([&] {
         quantize_values(values.data(), y.data(), values.size(), quantizer, table, for_each_serial);
       }));
  line("dequantize 64 x 56², to planes", least_micros([&] {
         dequantize_planes(bytes.data(), floats.data(), features, dequantizer, table, for_each_serial);
       }));
  line("dequantize 64 x 56²", least_micros([&] {
         dequantize_values(bytes.data(), floats.data(), values.size(), dequantizer, table, for_each_serial);
       }));
  line("float32 64 x 56², to planes",
       least_micros([&] { split_planes(values.data(), floats.data(), features, table, for_each_serial); }));
  const LayerOutput output = LayerOutput::of(ByteOutput{y.data(), {40.0f, -10}, 0.0f, HUGE_VALF});
  const WindowGeometry pool{2, 1, 64, {112, 112}, {56, 56}, {3, 3}, {2, 2}, {1, 1}, {1, 1}};
  line("max pool 64 x 112², k3 s2",
       least_micros([&] { max_pool(pool, bytes.data(), y.data(), table, for_each_serial); }));
  line("average pool 64 x 112², k3 s2", least_micros([&] {
         average_pool(pool, {-10, 0.025f, false, {}}, bytes.data(), output, table, for_each_serial);
       }));
  line("global average pool 1280 x 7²", least_micros([&] {
         global_average_pool({1, 49, 1280}, -10, 0.025f, bytes.data(), output, table, for_each_serial);
       }));
  line("add 256 x 56²", least_micros([&] {
         add_quantized(bytes.data(), dequantizer, bytes.data(), dequantizer, 56 * 56, 256, output, table,
                       for_each_serial);
       }));
}

}  // namespace

int main(int argc, char** argv) {
  for (const KernelTable* table : available_kernels()) {
    if (argc > 1 && std::strcmp(argv[1], table->name) != 0) continue;
    std::printf("%s\n", table->name);
    bench_depthwise(*table);
    bench_borders(*table);
  }
}
