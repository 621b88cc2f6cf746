// Chains of convolutions against the same convolutions on whole maps, bit for bit, on every instruction set. Tensors
// have exactly their size, so that the address sanitizer sees any access beyond it.

#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "check.h"
#include "isa.h"
#include "qchain.h"
#include "random.h"

namespace {

using namespace ort_quant;

// Runs the tasks in another order, as several threads would.
void for_each_backwards(std::size_t count, const std::function<void(std::size_t)>& body) {
  for (std::size_t i = count; i-- > 0;) body(i);
}

struct Chain {
  std::vector<ConvGeometry> geometries;
  std::vector<PackedConv> stages;
  std::size_t values;  // of the last output
};

std::size_t out_size(std::size_t in, std::size_t extent, std::size_t pads, std::size_t stride) {
  return (in + pads - extent) / stride + 1;
}

PackedConv make_stage(const ConvShape& shape, bool last, const KernelTable& kernels, Random& random) {
  std::vector<std::int8_t> weights(shape.channels_out * shape.channels_in / shape.group * shape.kernel[1] *
                                   shape.kernel[2]);
  for (auto& w : weights) w = static_cast<std::int8_t>(random.upto(0, 255));
  const std::vector<float> deq{0.003f};
  const std::vector<std::int32_t> bias(shape.channels_out, 7);
  OutputSpec outputs;
  outputs.y = Quantizer{2.5f, static_cast<std::int32_t>(random.upto(0, 255)) - 128};
  outputs.y_float = last;
  return PackedConv(shape, {weights.data(), weights.size()}, {deq.data(), 1}, {bias.data(), bias.size()},
                    static_cast<std::int32_t>(random.upto(0, 255)) - 128,
                    Epilogue::parse(last ? "add 0 r0" : random.one_of({"", "clip 0 0 6", "relu 0"})), outputs,
                    kernels);
}

// Depthwise, dense and pointwise stages; strides, dilations and any borders.
Chain make_chain(std::size_t batch, Random& random, const KernelTable& kernels) {
  Chain chain{};
  const std::size_t count = random.upto(2, kMaxStages);
  Dims in{1, random.upto(3, 24), random.upto(2, 12)};
  std::size_t channels = random.upto(1, 20);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t kind = random.upto(0, 2);  // pointwise, depthwise, dense
    ConvShape shape;
    shape.channels_in = channels;
    shape.channels_out = kind == 1 ? channels : random.upto(1, 40);
    shape.group = kind == 1 ? channels : 1;
    ConvGeometry geometry;
    geometry.batch = batch;
    geometry.in = in;
    for (std::size_t axis = 1; axis < 3; ++axis) {
      shape.kernel[axis] = kind == 0 ? 1 : random.upto(1, 5);
      shape.dilations[axis] = random.one_of<std::size_t>({1, 1, 2});
      shape.strides[axis] = random.one_of<std::size_t>({1, 1, 2, 3});
      const std::size_t extent = (shape.kernel[axis] - 1) * shape.dilations[axis] + 1;
      const std::size_t begin = random.upto(0, extent - 1);
      const std::size_t end = random.upto(0, extent - 1) + (extent > in[axis] ? extent - in[axis] : 0);
      geometry.pads_begin[axis] = static_cast<std::ptrdiff_t>(begin);
      geometry.out[axis] = out_size(in[axis], extent, begin + end, shape.strides[axis]);
    }
    chain.stages.push_back(make_stage(shape, i + 1 == count, kernels, random));
    chain.geometries.push_back(geometry);
    in = geometry.out;
    channels = shape.channels_out;
  }
  chain.values = batch * in[1] * in[2] * channels;
  return chain;
}

std::vector<std::uint8_t> make_input(const Chain& chain, Random& random) {
  const ConvGeometry& first = chain.geometries[0];
  std::vector<std::uint8_t> x(first.batch * first.in[1] * first.in[2] * chain.stages[0].shape().channels_in);
  for (auto& value : x) value = static_cast<std::uint8_t>(random.upto(0, 255));
  return x;
}

struct Results {
  explicit Results(std::size_t values) : y(values), y_float(values), residual(values, 0.25f) {
    tensors.y = y.data();
    tensors.y_float = y_float.data();
    tensors.residuals[0] = residual.data();
  }

  std::vector<std::uint8_t> y;
  std::vector<float> y_float, residual;
  OutputTensors tensors;
};

void run_apart(const Chain& chain, const std::vector<std::uint8_t>& x, Results& results) {
  std::vector<std::uint8_t> source = x;
  for (std::size_t i = 0; i < chain.stages.size(); ++i) {
    const ConvGeometry& geometry = chain.geometries[i];
    const bool last = i + 1 == chain.stages.size();
    std::vector<std::uint8_t> map(last ? 0 : geometry.batch * geometry.out[1] * geometry.out[2] *
                                                 chain.stages[i].shape().channels_out);
    OutputTensors tensors = results.tensors;
    if (!last) tensors = OutputTensors{map.data()};
    chain.stages[i].run(geometry, source.data(), tensors, for_each_serial);
    source = std::move(map);
  }
}

void check_chain(unsigned seed, const KernelTable& kernels) {
  Random random(seed);
  const std::size_t batch = random.upto(1, 3);
  Chain chain = make_chain(batch, random, kernels);
  const std::vector<std::uint8_t> x = make_input(chain, random);
  Results apart(chain.values);
  run_apart(chain, x, apart);
  const std::size_t budget = random.one_of<std::size_t>({1, 300, 2000, 9000, kChainBudget});
  const ConvChain joined(std::move(chain.stages), budget);
  for (const auto& for_each : {ForEach(for_each_serial), ForEach(for_each_backwards)}) {
    Results results(chain.values);
    joined.run(chain.geometries, x.data(), results.tensors, for_each);
    const bool same = results.y == apart.y && std::memcmp(results.y_float.data(), apart.y_float.data(),
                                                          chain.values * sizeof(float)) == 0;
    CHECK(same, "seed", seed, "budget", budget, "on", kernels.name);
  }
  Results in_place(chain.values);  // the results take the residual's place
  in_place.tensors.y_float = in_place.residual.data();
  joined.run(chain.geometries, x.data(), in_place.tensors, for_each_serial);
  CHECK(in_place.residual == apart.y_float, "in place: seed", seed, "on", kernels.name);
}

}  // namespace

int main() {
  for (const KernelTable* kernels : available_kernels()) {
    for (unsigned seed = 0; seed < 150; ++seed) check_chain(seed, *kernels);
  }
  return check::finish("qchain_test");
}
