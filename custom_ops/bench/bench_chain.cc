// Speed of the inverted residual blocks of EfficientNet-Lite0: convolution by convolution, and as chains.
// Usage: bench_chain [batch] [isa]
//
// All blocks run one after the other, as in the network: weights and maps are as cold as they are there. Times are the
// least of many rounds.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "isa.h"
#include "qchain.h"
#include "stopwatch.h"

namespace {

using namespace ort_quant;

struct Block {
  std::size_t in, between, out, kernel, stride, size;
};

const Block kBlocks[] = {
    {32, 32, 16, 3, 1, 112},   {16, 96, 24, 3, 2, 112},   {24, 144, 24, 3, 1, 56},   {24, 144, 40, 5, 2, 56},
    {40, 240, 40, 5, 1, 28},   {40, 240, 80, 3, 2, 28},   {80, 480, 80, 3, 1, 14},   {80, 480, 80, 3, 1, 14},
    {80, 480, 112, 5, 1, 14},  {112, 672, 112, 5, 1, 14}, {112, 672, 112, 5, 1, 14}, {112, 672, 192, 5, 2, 14},
    {192, 1152, 192, 5, 1, 7}, {192, 1152, 192, 5, 1, 7}, {192, 1152, 192, 5, 1, 7}, {192, 1152, 320, 3, 1, 7},
};

struct BlockFixture {
  BlockFixture(const Block& block, std::size_t batch, const KernelTable& kernels) {
    const std::size_t out = (block.size - 1) / block.stride + 1;
    if (block.in != block.between) add(batch, block.in, block.between, 1, 1, 1, block.size, kernels);
    add(batch, block.between, block.between, block.between, block.kernel, block.stride, block.size, kernels);
    const bool residual = block.in == block.out && block.stride == 1;
    add(batch, block.between, block.out, 1, 1, 1, out, kernels, residual);
    x.assign(batch * block.size * block.size * block.in, 77);
    y.resize(batch * out * out * block.out);
    outputs.y = y.data();
    if (residual) {
      floats.assign(y.size(), 0.5f);
      outputs.y_float = floats.data();
      outputs.residuals[0] = floats.data();
    }
  }

  void add(std::size_t batch, std::size_t in, std::size_t out, std::size_t group, std::size_t kernel,
           std::size_t stride, std::size_t size, const KernelTable& kernels, bool residual = false) {
    ConvShape shape{in, out, group, {1, kernel, kernel}, {1, stride, stride}, {1, 1, 1}, false};
    const auto pad = static_cast<std::ptrdiff_t>(kernel / 2);
    const std::size_t out_size = (size - 1) / stride + 1;
    geometries.push_back({batch, {1, size, size}, {1, out_size, out_size}, {0, pad, pad}});
    std::vector<std::int8_t> weights(out * in / group * kernel * kernel);
    static std::mt19937 random(1);
    for (auto& w : weights) w = static_cast<std::int8_t>(random());
    const std::vector<float> deq(out, 1e-3f);
    const std::vector<std::int32_t> bias(out, 10);
    OutputSpec spec;
    spec.y = Quantizer{42.5f, -128};
    spec.y_float = residual;
    stages.emplace_back(shape, Span<const std::int8_t>{weights.data(), weights.size()},
                        Span<const float>{deq.data(), out}, Span<const std::int32_t>{bias.data(), out}, -3,
                        Epilogue::parse(residual ? "add 0 r0" : "clip 0 0 6"), spec, kernels);
    maps.emplace_back(batch * out_size * out_size * out);
  }

  void run_apart(std::vector<double>& seconds) {
    const std::uint8_t* source = x.data();
    for (std::size_t i = 0; i < stages.size(); ++i) {
      OutputTensors tensors = outputs;
      if (i + 1 < stages.size()) tensors = OutputTensors{maps[i].data()};
      seconds.push_back(
          bench::least_seconds([&] { stages[i].run(geometries[i], source, tensors, for_each_serial); }, 1));
      source = tensors.y;
    }
  }

  void run_chain(std::vector<double>& seconds) {
    seconds.push_back(
        bench::least_seconds([&] { chain->run(geometries, x.data(), outputs, for_each_serial); }, 1));
  }

  std::vector<PackedConv> stages;
  std::unique_ptr<ConvChain> chain;
  std::vector<ConvGeometry> geometries;
  std::vector<std::vector<std::uint8_t>> maps;
  std::vector<std::uint8_t> x, y;
  std::vector<float> floats;
  OutputTensors outputs;
};

void keep_least(std::vector<double>& least, const std::vector<double>& seconds) {
  if (least.empty()) least = seconds;
  for (std::size_t i = 0; i < least.size(); ++i) least[i] = std::min(least[i], seconds[i]);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t batch = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
  const KernelTable& kernels = select_kernels(argc > 2 ? argv[2] : nullptr);
  std::vector<BlockFixture> blocks, chains;
  for (const Block& block : kBlocks) {
    blocks.emplace_back(block, batch, kernels);
    chains.emplace_back(block, batch, kernels);
    chains.back().chain = std::make_unique<ConvChain>(std::move(chains.back().stages));
  }
  std::vector<double> apart, chained;
  for (int round = 0; round < 400; ++round) {
    std::vector<double> seconds;
    for (BlockFixture& block : blocks) block.run_apart(seconds);
    keep_least(apart, seconds);
    seconds.clear();
    for (BlockFixture& block : chains) block.run_chain(seconds);
    keep_least(chained, seconds);
  }
  std::printf("%-28s %8s %8s %8s   %8s %8s\n", "block", "expand", "depthw.", "project", "sum", "chain");
  double sums[2] = {0, 0};
  std::size_t at = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Block& block = kBlocks[i];
    double stage[3] = {0, 0, 0};
    const std::size_t count = blocks[i].geometries.size();
    for (std::size_t j = 3 - count; j < 3; ++j) stage[j] = apart[at++] * 1e6;
    const double sum = stage[0] + stage[1] + stage[2];
    std::printf("%3zu->%4zu->%3zu k%zu s%zu %3zux%-3zu  %8.1f %8.1f %8.1f   %8.1f %8.1f\n", block.in, block.between,
                block.out, block.kernel, block.stride, block.size, block.size, stage[0], stage[1], stage[2], sum,
                chained[i] * 1e6);
    sums[0] += sum;
    sums[1] += chained[i] * 1e6;
  }
  std::printf("%-55s   %8.1f %8.1f\n", "all", sums[0], sums[1]);
}
