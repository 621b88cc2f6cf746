// Depthwise convolution, layout, pools and addition of every instruction set against the definition, bit for bit.
// Tensors have exactly their size, so that the address sanitizer sees any access beyond it.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "depthwise.h"
#include "isa.h"
#include "layout.h"
#include "pool.h"
#include "qadd.h"
#include "test_data.h"

namespace {

using namespace ort_quant;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  std::int64_t between(std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(most - least + 1));
  }
  bool chance(unsigned one_in) { return engine_() % one_in == 0; }
  // Of all values of the type, or of its extremes.
  template <class T>
  std::vector<T> values(std::size_t count, bool extreme) {
    std::vector<T> result(count);
    for (T& value : result) {
      value = static_cast<T>(engine_());
      if (extreme) value = engine_() % 2 == 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
    }
    return result;
  }

 private:
  std::mt19937 engine_;
};

// The definition of the codes, float32 operation by operation.
std::uint8_t byte_of(float value, const ByteQuantizer& quantizer) {
  const float code = std::rint(value * quantizer.scale) + static_cast<float>(quantizer.offset);
  if (std::isnan(code)) return 128;
  return static_cast<std::uint8_t>(static_cast<int>(std::min(std::max(code, -128.0f), 127.0f)) + 128);
}

std::uint8_t byte_of(float value, const ByteOutput& output) {
  if (std::isnan(value)) return 128;
  return byte_of(std::min(std::max(value, output.lowest), output.highest), output.quantizer);
}

// Takes pieces, counts how often each result comes and spoils what it was given.
struct Collector {
  std::vector<float> values;
  std::vector<int> times;
  std::size_t channels;

  Collector(std::size_t positions, std::size_t channel_count)
      : values(positions * channel_count), times(values.size()), channels(channel_count) {}

  static void take(void* context, float* values, std::size_t position, std::size_t channel, std::size_t count) {
    auto& self = *static_cast<Collector*>(context);
    for (std::size_t i = 0; i < count; ++i) {
      self.values.at(position * self.channels + channel + i) = values[i];
      ++self.times.at(position * self.channels + channel + i);
    }
    std::fill_n(values, kLargestPiece, -1.0f);
  }
  LayerOutput output() { return LayerOutput::of(PieceOutput{take, this}); }
};

bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b)); }
bool same(int a, int b) { return a == b; }

// One check for the first difference, if any.
template <class T>
void compare_values(const char* what, const KernelTable& table, const std::vector<T>& got, const std::vector<T>& want,
                    std::size_t channels, const std::string& detail) {
  std::size_t i = 0;
  while (i < want.size() && same(got[i], want[i])) ++i;
  const bool equal = i == want.size();
  CHECK(equal, table.name, what, detail, "position", i / channels, "channel", i % channels, "got",
        equal ? 0.0 : static_cast<double>(got[i]), "want", equal ? 0.0 : static_cast<double>(want[i]));
}

// Runs a layer with both kinds of output and compares with the expected float32 results.
template <class Run>
void compare(const char* what, const KernelTable& table, const std::vector<float>& expected, std::size_t channels,
             const std::vector<ByteOutput>& ends, const std::string& detail, Run run) {
  Collector collector(expected.size() / channels, channels);
  run(collector.output());
  const std::vector<int> once(expected.size(), 1);
  compare_values(what, table, collector.times, once, channels, detail + "times given");
  compare_values(what, table, collector.values, expected, channels, detail + "floats");
  for (ByteOutput end : ends) {
    std::vector<std::uint8_t> y(expected.size(), 0x5A), codes;
    for (float value : expected) codes.push_back(byte_of(value, end));
    end.y = y.data();
    run(LayerOutput::of(end));
    compare_values(what, table, y, codes, channels, detail + "bytes");
  }
}

std::string text(const WindowGeometry& w) {
  std::ostringstream out;
  const auto list = [&](const char* name, const std::int64_t* values) {
    out << name;
    for (std::size_t d = 0; d < w.rank; ++d) out << (d == 0 ? "" : "x") << values[d];
    out << ' ';
  };
  out << "batch " << w.batch << " channels " << w.channels << ' ';
  list("in ", w.in);
  list("out ", w.out);
  list("kernel ", w.kernel);
  list("strides ", w.strides);
  list("dilations ", w.dilations);
  list("pads ", w.pads_begin);
  return out.str();
}

// f(input position or −1 for padding, tap number) for the taps of an output position of an image.
template <class F>
void for_each_tap(const WindowGeometry& w, std::size_t position, F f) {
  std::int64_t output[3] = {0, 0, 0}, taps = 1;
  auto rest = static_cast<std::int64_t>(position);
  for (std::size_t d = w.rank; d-- > 0; rest /= w.out[d]) output[d] = rest % w.out[d];
  for (std::size_t d = 0; d < w.rank; ++d) taps *= w.kernel[d];
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    std::int64_t left = tap, place = 0, step = 1;
    for (std::size_t d = w.rank; d-- > 0; left /= w.kernel[d]) {
      const std::int64_t at = output[d] * w.strides[d] - w.pads_begin[d] + left % w.kernel[d] * w.dilations[d];
      if (at < 0 || at >= w.in[d]) place = -1;
      if (place >= 0) place += at * step;
      step *= w.in[d];
    }
    f(place, static_cast<std::size_t>(tap));
  }
}

std::size_t volume(const std::int64_t* sizes, std::size_t rank) {
  std::int64_t product = 1;
  for (std::size_t d = 0; d < rank; ++d) product *= sizes[d];
  return static_cast<std::size_t>(product);
}

struct DepthwiseCase {
  WindowGeometry window;
  std::int32_t x_offset = 0;
  bool with_bias = true;
  bool one_factor = false;
  bool extreme = false;
  int bias_bits = 18;     // where it is not extreme
  bool any_sign = false;  // of the factors
};

std::vector<float> expected_depthwise(const DepthwiseCase& c, const std::vector<std::uint8_t>& x,
                                      const DepthwiseParams& params) {
  const WindowGeometry& w = c.window;
  const std::size_t positions = volume(w.out, w.rank), inputs = volume(w.in, w.rank), taps = volume(w.kernel, w.rank);
  std::vector<float> y;
  for (std::size_t position = 0; position < w.batch * positions; ++position) {
    const std::uint8_t* image = x.data() + position / positions * inputs * w.channels;
    for (std::size_t channel = 0; channel < w.channels; ++channel) {
      std::uint32_t sum = params.bias.empty() ? 0u : static_cast<std::uint32_t>(params.bias[channel]);
      for_each_tap(w, position % positions, [&](std::int64_t place, std::size_t tap) {
        if (place < 0) return;
        const int value = image[static_cast<std::size_t>(place) * w.channels + channel] - (c.x_offset + 128);
        sum += static_cast<std::uint32_t>(value * params.weights[channel * taps + tap]);
      });
      y.push_back(static_cast<float>(static_cast<std::int32_t>(sum)) * params.deq[params.deq.size == 1 ? 0 : channel]);
    }
  }
  return y;
}

void test_depthwise_case(const KernelTable& table, const DepthwiseCase& c, Random& random) {
  const WindowGeometry& w = c.window;
  const auto weights = random.values<std::int8_t>(w.channels * volume(w.kernel, w.rank), c.extreme);
  const auto x = random.values<std::uint8_t>(w.batch * volume(w.in, w.rank) * w.channels, c.extreme);
  auto bias = random.values<std::int32_t>(c.with_bias ? w.channels : 0, c.extreme);
  if (!c.extreme) std::for_each(bias.begin(), bias.end(), [&](std::int32_t& b) { b >>= 32 - c.bias_bits; });
  std::vector<float> deq(c.one_factor ? 1 : w.channels);
  for (float& factor : deq) {
    factor = std::ldexp(static_cast<float>(random.between(c.any_sign ? -1000 : 1, 1000)), -20);
  }
  DepthwiseParams params{w.rank, w.channels, {}, {}, {}, {weights.data(), weights.size()}, {deq.data(), deq.size()},
                         {bias.data(), bias.size()}, c.x_offset};
  std::copy(w.kernel, w.kernel + 3, params.kernel);
  std::copy(w.strides, w.strides + 3, params.strides);
  std::copy(w.dilations, w.dilations + 3, params.dilations);
  const PackedDepthwise depthwise(params, table);
  const std::vector<ByteOutput> ends = {{nullptr, {1.0f, -128}, 0.0f, 6.0f},
                                        {nullptr, {42.5f, -128}, 0.0f, 6.0f},
                                        {nullptr, {0.07f, -128}, -kInfinity, kInfinity},
                                        {nullptr, {3.0f, 5}, -kInfinity, kInfinity},
                                        {nullptr, {1e30f, 127}, -kInfinity, kInfinity}};
  compare("depthwise", table, expected_depthwise(c, x, params), w.channels, ends, text(w),
          [&](const LayerOutput& output) { depthwise.run(w, x.data(), output, for_each_serial); });
}

WindowGeometry square(std::size_t batch, std::int64_t size, std::size_t channels, std::int64_t kernel,
                      std::int64_t stride) {
  const std::int64_t out = (size + stride - 1) / stride;
  const std::int64_t pad = std::max<std::int64_t>(0, (out - 1) * stride + kernel - size) / 2;
  return {2, batch, channels, {size, size}, {out, out}, {kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad}};
}

WindowGeometry random_window(Random& random, std::int64_t most_channels) {
  WindowGeometry w{};
  w.rank = static_cast<std::size_t>(random.between(1, 3));
  w.batch = static_cast<std::size_t>(random.between(1, 2));
  w.channels = static_cast<std::size_t>(random.between(1, most_channels));
  for (std::size_t d = 0; d < w.rank; ++d) {
    w.kernel[d] = random.between(1, 6);
    w.strides[d] = random.between(1, 3);
    w.dilations[d] = random.between(1, 3);
    w.pads_begin[d] = random.between(0, 4);
    w.in[d] = random.between(1, 11);
    w.out[d] = random.between(1, 7);  // beyond the input there is padding
  }
  return w;
}

// The windows that most networks have, over several strips of outputs and all numbers of rows at an edge.
WindowGeometry usual_window(Random& random) {
  const std::int64_t kernel = random.chance(2) ? 3 : 5, stride = random.between(1, 2);
  WindowGeometry w{};
  w.rank = 2;
  w.batch = 1;
  w.channels = static_cast<std::size_t>(random.chance(3) ? random.between(1, 140) : 16 * random.between(1, 9));
  for (std::size_t d = 0; d < 2; ++d) {
    w.kernel[d] = kernel;
    w.strides[d] = random.chance(8) ? 3 - stride : stride;
    w.dilations[d] = 1;
    w.pads_begin[d] = random.between(0, random.chance(4) ? 2 * kernel : kernel / 2);
    w.in[d] = random.between(1, d == 0 ? 14 : 45);
    const std::int64_t full = (w.in[d] + w.pads_begin[d] + kernel / 2 - kernel) / w.strides[d] + 1;
    w.out[d] = std::max<std::int64_t>(1, full + (random.chance(4) ? random.between(-2, 4) : 0));
  }
  return w;
}

void test_depthwise(const KernelTable& table) {
  Random random(7);
  for (std::size_t channels : {32u, 96u, 144u, 240u, 480u}) {
    for (std::int64_t kernel : {3, 5}) {
      for (std::int64_t stride : {1, 2}) {
        test_depthwise_case(table, {square(1, 8, channels, kernel, stride), -128, true, false, false}, random);
      }
    }
  }
  for (std::size_t channels : {1u, 3u, 15u, 16u, 17u, 31u, 33u, 47u, 48u, 63u, 64u, 65u, 80u, 112u, 127u, 129u}) {
    test_depthwise_case(table, {square(2, 7, channels, 3, 1), 127, true, true, true}, random);
    test_depthwise_case(table, {square(1, 8, channels, 5, 1), -3, false, false, false}, random);
  }
  test_depthwise_case(table, {square(1, 66, 32, 3, 1), 0, true, false, false}, random);   // several tiles of columns
  test_depthwise_case(table, {square(1, 90, 40, 7, 2), 9, true, false, false}, random);   // several bands of rows
  for (std::int64_t kernel : {31, 41}) {  // the last is too large for columns
    test_depthwise_case(table, {square(1, 12, 20, kernel, 1), 5, true, false, false}, random);
  }
  for (int trial = 0; trial < 150; ++trial) {
    const std::int64_t offsets[] = {-128, 127, 0, random.between(-127, 126)};
    const auto offset = static_cast<std::int32_t>(offsets[random.between(0, 3)]);
    const DepthwiseCase c{random_window(random, 140), offset, random.chance(2), random.chance(4), random.chance(3)};
    test_depthwise_case(table, c, random);
  }
  for (int trial = 0; trial < 120; ++trial) {
    const DepthwiseCase c{usual_window(random), static_cast<std::int32_t>(random.between(-128, 127)), random.chance(2),
                          random.chance(4), random.chance(6), random.chance(2) ? 18 : random.chance(2) ? 23 : 24,
                          random.chance(4)};
    test_depthwise_case(table, c, random);
  }
}

// --- pools -----------------------------------------------------------------------------------------------------------

void test_max_pool(const KernelTable& table, const WindowGeometry& w, Random& random) {
  const std::size_t positions = volume(w.out, w.rank), inputs = volume(w.in, w.rank);
  const auto x = random.values<std::uint8_t>(w.batch * inputs * w.channels, false);
  std::vector<std::uint8_t> y(w.batch * positions * w.channels, 0x5A), want;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t position = i / w.channels;
    std::uint8_t largest = 0;
    for_each_tap(w, position % positions, [&](std::int64_t place, std::size_t) {
      if (place < 0) return;
      const std::size_t at = position / positions * inputs + static_cast<std::size_t>(place);
      largest = std::max(largest, x[at * w.channels + i % w.channels]);
    });
    want.push_back(largest);
  }
  max_pool(w, x.data(), y.data(), table, for_each_serial);
  compare_values("max_pool", table, y, want, w.channels, text(w));
}

// How many taps count: those of the input, or those that are not beyond the padding either.
float tap_count(const WindowGeometry& w, std::size_t position, const AverageParams& params) {
  std::int64_t number = 1;
  auto rest = static_cast<std::int64_t>(position);
  for (std::size_t d = w.rank; d-- > 0; rest /= w.out[d]) {
    std::int64_t counted = 0;
    for (std::int64_t k = 0; k < w.kernel[d]; ++k) {
      const std::int64_t at = rest % w.out[d] * w.strides[d] - w.pads_begin[d] + k * w.dilations[d];
      counted += params.count_include_pad ? at < w.in[d] + params.pads_end[d] : at >= 0 && at < w.in[d];
    }
    number *= counted;
  }
  return static_cast<float>(number);
}

const std::vector<ByteOutput>& some_ends() {
  static const std::vector<ByteOutput> ends = {{nullptr, {1.0f, -128}, 0.0f, 6.0f},
                                               {nullptr, {42.5f, 17}, -kInfinity, kInfinity},
                                               {nullptr, {1e30f, 127}, -kInfinity, kInfinity}};
  return ends;
}

void test_average_pool(const KernelTable& table, const WindowGeometry& w, Random& random) {
  const std::size_t positions = volume(w.out, w.rank), inputs = volume(w.in, w.rank);
  const auto x = random.values<std::uint8_t>(w.batch * inputs * w.channels, random.chance(3));
  AverageParams params{static_cast<std::int32_t>(random.between(-128, 127)), 0.37f, random.chance(2), {}};
  for (std::int64_t& pad : params.pads_end) pad = random.between(0, 3);
  std::vector<float> want;
  for (std::size_t i = 0; i < w.batch * positions * w.channels; ++i) {
    const std::size_t position = i / w.channels;
    int sum = 0;
    for_each_tap(w, position % positions, [&](std::int64_t place, std::size_t) {
      if (place < 0) return;
      const std::size_t at = position / positions * inputs + static_cast<std::size_t>(place);
      sum += x[at * w.channels + i % w.channels] - (params.x_offset + 128);
    });
    want.push_back(static_cast<float>(sum) / tap_count(w, position % positions, params) * params.deq);
  }
  compare("average_pool", table, want, w.channels, some_ends(), text(w), [&](const LayerOutput& output) {
    average_pool(w, params, x.data(), output, table, for_each_serial);
  });
}

void test_global_pool(const KernelTable& table, const GlobalPoolShape& shape, Random& random) {
  const auto x = random.values<std::uint8_t>(shape.batch * shape.positions * shape.channels, false);
  std::vector<float> want;
  for (std::size_t i = 0; i < shape.batch * shape.channels; ++i) {
    int sum = 0;
    for (std::size_t p = 0; p < shape.positions; ++p) {
      sum += x[(i / shape.channels * shape.positions + p) * shape.channels + i % shape.channels] - 100;
    }
    want.push_back(static_cast<float>(sum) / static_cast<float>(shape.positions) * 0.11f);
  }
  compare("global_average_pool", table, want, shape.channels, some_ends(), "", [&](const LayerOutput& output) {
    global_average_pool(shape, -28, 0.11f, x.data(), output, table, for_each_serial);
  });
}

void test_pools(const KernelTable& table) {
  Random random(8);
  for (int trial = 0; trial < 100; ++trial) {
    test_max_pool(table, random_window(random, 140), random);
    test_average_pool(table, random_window(random, 140), random);
  }
  for (std::size_t channels : {1u, 15u, 64u, 100u, 130u}) {
    for (std::size_t positions : {1u, 49u, 1000u}) test_global_pool(table, {2, positions, channels}, random);
  }
}

// --- addition and layout ---------------------------------------------------------------------------------------------

void test_add(const KernelTable& table) {
  Random random(9);
  for (std::size_t channels : {1u, 5u, 16u, 63u, 64u, 65u, 130u, 16390u}) {
    for (std::size_t rows : {1u, 3u, 7u}) {
      const auto a = random.values<std::uint8_t>(rows * channels, false);
      const auto b = random.values<std::uint8_t>(rows * channels, false);
      for (const auto& [sa, sb] : {std::pair{0.021f, 0.3f}, std::pair{1e38f, 1e38f}}) {  // infinities and NaN
        std::vector<float> want;
        for (std::size_t i = 0; i < a.size(); ++i) {
          want.push_back(static_cast<float>(a[i] - 128 - 5) * sa + static_cast<float>(b[i] - 128 + 100) * sb);
        }
        const ByteDequantizer of_a{sa, 5}, of_b{sb, -100};
        compare("add", table, want, channels, some_ends(), std::to_string(channels), [&](const LayerOutput& output) {
          add_quantized(a.data(), of_a, b.data(), of_b, rows, channels, output, table, for_each_serial);
        });
      }
    }
  }
}

void test_planes(const KernelTable& table, const Planes& planes, unsigned seed) {
  const std::size_t count = planes.batch * planes.channels * planes.positions;
  const std::vector<float> x = interesting_values(count, seed);
  const ByteQuantizer quantizer{0.7f, -9};
  const ByteDequantizer dequantizer{0.013f, 77};
  std::vector<std::uint8_t> bytes(count), want_bytes(count), flat(count), want_flat(count);
  std::vector<float> floats(count), values(count), split(count);
  std::vector<float> want_floats(count), want_values(count), want_split(count);
  Random random(seed);
  const auto u = random.values<std::uint8_t>(count, false);
  const auto real = [&](std::uint8_t code) {
    return static_cast<float>(code - 128 - dequantizer.offset) * dequantizer.scale;
  };
  for (std::size_t i = 0; i < count; ++i) {  // i counts channels last
    const std::size_t channel = i % planes.channels, position = i / planes.channels % planes.positions;
    const std::size_t plane = i / planes.channels / planes.positions * planes.channels + channel;
    const std::size_t first = plane * planes.positions + position;
    want_bytes[i] = byte_of(x[first], quantizer);
    want_floats[first] = real(u[i]);
    want_split[first] = x[i];
    want_flat[i] = byte_of(x[i], quantizer);
    want_values[i] = real(u[i]);
  }
  const std::string detail = std::to_string(planes.channels) + " x " + std::to_string(planes.positions);
  quantize_planes(x.data(), bytes.data(), planes, quantizer, table, for_each_serial);
  compare_values("quantize_planes", table, bytes, want_bytes, planes.channels, detail);
  quantize_values(x.data(), flat.data(), count, quantizer, table, for_each_serial);
  compare_values("quantize_values", table, flat, want_flat, planes.channels, detail);
  dequantize_planes(u.data(), floats.data(), planes, dequantizer, table, for_each_serial);
  compare_values("dequantize_planes", table, floats, want_floats, planes.positions, detail);
  dequantize_values(u.data(), values.data(), count, dequantizer, table, for_each_serial);
  compare_values("dequantize_values", table, values, want_values, planes.channels, detail);
  split_planes(x.data(), split.data(), planes, table, for_each_serial);
  compare_values("split_planes", table, split, want_split, planes.positions, detail);
}

void test_layout(const KernelTable& table) {
  unsigned seed = 0;
  for (std::size_t channels : {1u, 2u, 3u, 4u, 5u, 15u, 16u, 17u, 32u, 33u, 64u, 100u}) {
    for (std::size_t positions : {1u, 2u, 3u, 15u, 16u, 17u, 63u, 64u, 65u, 200u}) {
      test_planes(table, {2, channels, positions}, ++seed);
    }
  }
  test_planes(table, {1, 3, 12000}, ++seed);  // several blocks
  test_planes(table, {1, 20000, 3}, ++seed);
}

}  // namespace

int main() {
  for (const KernelTable* table : available_kernels()) {
    test_depthwise(*table);
    test_pools(*table);
    test_add(*table);
    test_layout(*table);
  }
  return check::finish("layers_test");
}
