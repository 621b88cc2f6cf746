// The int8 convolutions of every instruction set against the definition, bit for bit. Tensors have exactly their
// size, so that the address sanitizer sees any access beyond it.

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "isa.h"
#include "qconv.h"
#include "qconv_reference.h"
#include "random.h"

namespace {

using namespace ort_quant;
using reference::ConvCase;
using reference::volume;

const char* const kEpilogues[] = {
    "",
    "relu 0",
    "clip 0 0 6",
    "clip 0 -1.5 inf",
    "clip 0 2 1",
    "add 0 r0",
    "add r0 0; relu 1",
    "clip 0 0 6; add 1 r1",
    "add 0 r0; clip 1 -1.0 4.0",
    "add 0 r1; clip 1 -2.0 5.0; relu 2",
    "clip 0 -3.0 3.0; mul 1 c0; sub 2 r1; add 3 r0",
    "leaky_relu 0 0.1; div 1 3.0",
    "hard_sigmoid 0 0.16666667 0.5; mul 0 1",
    "mul 0 c1; add 1 c0; relu 2; div r0 3; sub 1.5 4",
};

void choose_outputs(ConvCase& c, Random& random) {
  const auto quantizer = [&] {
    return Quantizer{random.one_of({0.25f, 3.0f, 40.0f, 1e-3f, 1e30f}),
                     random.one_of<std::int32_t>({0, -128, 127, -7, 99})};
  };
  const std::size_t kinds = random.chance(2) ? 1 : random.upto(1, 7);
  if ((kinds & 1) != 0) c.outputs.y = quantizer();
  if ((kinds & 2) != 0) c.outputs.y_float = true;
  if ((kinds & 4) != 0) c.outputs.y2 = quantizer();
  c.outputs.float_layout = random.one_of({FloatLayout::kChannelsLast, FloatLayout::kChannelsFirst});
  c.epilogue = random.chance(2) ? kEpilogues[random.upto(0, 2)] : kEpilogues[random.upto(0, std::size(kEpilogues) - 1)];
}

void fill(ConvCase& c, Random& random) {
  const bool extreme = random.chance(6);
  const std::size_t channels = c.shape.channels_out;
  const std::size_t results = c.geometry.batch * volume(c.geometry.out) * channels;
  c.x.resize(c.geometry.batch * volume(c.geometry.in) * c.shape.channels_in);
  for (auto& x : c.x) x = static_cast<std::uint8_t>(extreme ? random.one_of({0, 255}) : random.upto(0, 255));
  c.weights.resize(channels * c.shape.channels_in / c.shape.group * volume(c.shape.kernel));
  for (auto& w : c.weights) {
    w = static_cast<std::int8_t>(extreme ? -128 : static_cast<int>(random.upto(0, 255)) - 128);
  }
  c.deq.resize(random.chance(4) ? 1 : channels);
  for (float& deq : c.deq) {
    deq = random.one_of({1.0f, 0.004f, 3e-4f, -0.01f, 1e-7f}) * (1.0f + random.normal(0.1f));
  }
  if (random.chance(20)) c.deq[0] = random.one_of({HUGE_VALF, std::numeric_limits<float>::quiet_NaN(), 3e38f});
  if (!random.chance(4)) c.bias.resize(channels);
  for (auto& bias : c.bias) {
    bias = random.chance(8) ? random.one_of({INT32_MAX, INT32_MIN}) : static_cast<std::int32_t>(random.normal(3000.0f));
  }
  c.channel_constants.resize(2 * channels);
  for (float& value : c.channel_constants) value = random.normal(2.0f);
  for (auto& residual : c.residuals) {
    residual.resize(results);
    for (float& value : residual) value = random.normal(4.0f);
    if (random.chance(10)) residual[random.upto(0, results - 1)] = std::numeric_limits<float>::quiet_NaN();
  }
}

// The output size that pads at both ends give; false if there is none.
bool choose_sizes(ConvCase& c, Random& random, std::size_t rank, std::size_t largest) {
  for (std::size_t d = 3 - rank; d < 3; ++d) {
    const std::size_t reach = (c.shape.kernel[d] - 1) * c.shape.dilations[d] + 1;
    const std::size_t before = random.upto(0, reach);
    const std::size_t after = random.upto(0, reach);
    const std::size_t in = random.upto(1, largest);
    c.geometry.in[d] = in;
    c.geometry.pads_begin[d] = static_cast<std::ptrdiff_t>(before);
    if (c.shape.transposed) {
      const std::size_t whole = (in - 1) * c.shape.strides[d] + reach + random.upto(0, c.shape.strides[d] - 1);
      if (whole <= before + after) return false;
      c.geometry.out[d] = whole - before - after;
    } else {
      if (in + before + after < reach) return false;
      c.geometry.out[d] = (in + before + after - reach) / c.shape.strides[d] + 1;
    }
  }
  return true;
}

bool choose_layer(ConvCase& c, Random& random) {
  const std::size_t rank = random.upto(1, 3);
  c.shape.group = random.chance(2) ? 1 : random.one_of<std::size_t>({2, 3, 4, 8, 17, 32});
  const std::size_t most = c.shape.group == 1 ? 70 : 12;
  c.shape.channels_in = c.shape.group * (random.chance(3) ? 4 * random.upto(1, most / 4) : random.upto(1, most));
  c.shape.channels_out = c.shape.group * random.upto(1, most);
  if (random.chance(6)) c.shape.channels_in = c.shape.channels_out = c.shape.group;
  c.shape.transposed = random.chance(3);
  for (std::size_t d = 3 - rank; d < 3; ++d) {
    c.shape.kernel[d] = random.upto(1, rank == 3 ? 3 : 5);
    c.shape.strides[d] = random.upto(1, 3);
    c.shape.dilations[d] = random.upto(1, 3);
  }
  c.geometry.batch = random.upto(1, 3);
  c.x_offset = random.one_of<std::int32_t>({0, -128, 127, 5, -60});
  return choose_sizes(c, random, rank, rank == 1 ? 40 : rank == 2 ? 12 : 5);
}

std::string described(const ConvCase& c) {
  std::string text = c.shape.transposed ? "transposed" : "conv";
  const auto add = [&](const char* name, auto... values) {
    text += std::string(" ") + name;
    ((text += " " + std::to_string(values)), ...);
  };
  const auto add_dims = [&](const char* name, const auto& dims) { add(name, dims[0], dims[1], dims[2]); };
  add("batch", c.geometry.batch);
  add("channels", c.shape.channels_in, c.shape.channels_out);
  add("group", c.shape.group);
  add_dims("kernel", c.shape.kernel);
  add_dims("strides", c.shape.strides);
  add_dims("dilations", c.shape.dilations);
  add_dims("pads", c.geometry.pads_begin);
  add_dims("in", c.geometry.in);
  add_dims("out", c.geometry.out);
  return text + " epilogue \"" + c.epilogue + "\"";
}

struct Results {
  std::vector<std::uint8_t> y, y2;
  std::vector<float> y_float;
};

Results expected(const ConvCase& c, const Epilogue& epilogue) {
  const std::vector<std::int32_t> sums = reference::sums(c);
  const std::size_t channels = c.shape.channels_out;
  const std::size_t plane = volume(c.geometry.out);
  Results results;
  results.y_float.resize(c.outputs.y_float ? sums.size() : 0);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const float value = reference::result(c, epilogue, sums[i], i);
    if (c.outputs.y) results.y.push_back(reference::quantized(value, *c.outputs.y));
    if (c.outputs.y2) results.y2.push_back(reference::quantized(value, *c.outputs.y2));
    if (!c.outputs.y_float) continue;
    const std::size_t image = i / channels / plane;
    const std::size_t planes_index = (image * channels + i % channels) * plane + i / channels % plane;
    results.y_float[c.outputs.float_layout == FloatLayout::kChannelsFirst ? planes_index : i] = value;
  }
  return results;
}

// Blocks in the opposite order.
void for_each_reversed(std::size_t count, const std::function<void(std::size_t)>& body) {
  while (count-- > 0) body(count);
}

Results computed(const ConvCase& c, const Epilogue& epilogue, const KernelTable& table, const ForEach& for_each) {
  const std::size_t count = c.geometry.batch * volume(c.geometry.out) * c.shape.channels_out;
  const PackedConv conv(c.shape, {c.weights.data(), c.weights.size()}, {c.deq.data(), c.deq.size()},
                        {c.bias.data(), c.bias.size()}, c.x_offset, epilogue, c.outputs, table);
  Results results;
  OutputTensors tensors;
  if (c.outputs.y) tensors.y = (results.y.resize(count), results.y.data());
  if (c.outputs.y2) tensors.y2 = (results.y2.resize(count), results.y2.data());
  if (c.outputs.y_float) tensors.y_float = (results.y_float.resize(count), results.y_float.data());
  for (std::size_t i = 0; i < kMaxResiduals; ++i) tensors.residuals[i] = c.residuals[i].data();
  conv.run(c.geometry, c.x.data(), tensors, for_each);
  return results;
}

bool same_floats(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool both_nan = std::isnan(a[i]) && std::isnan(b[i]);
    if (!both_nan && std::memcmp(&a[i], &b[i], sizeof a[i]) != 0) return false;
  }
  return true;
}

void compare(const ConvCase& c) {
  const Epilogue epilogue = Epilogue::parse(c.epilogue, c.channel_constants, c.shape.channels_out);
  const Results want = expected(c, epilogue);
  for (const KernelTable* table : available_kernels()) {
    const Results got = computed(c, epilogue, *table, table->name[0] == 's' ? for_each_reversed : for_each_serial);
    CHECK(got.y == want.y, table->name, "y", described(c));
    CHECK(got.y2 == want.y2, table->name, "y2", described(c));
    CHECK(same_floats(got.y_float, want.y_float), table->name, "y_float", described(c));
  }
}

void test_random_layers(unsigned cases) {
  for (unsigned seed = 0; seed < cases; ++seed) {
    Random random(seed);
    ConvCase c;
    if (!choose_layer(c, random)) continue;
    choose_outputs(c, random);
    fill(c, random);
    compare(c);
  }
}

ConvCase layer(std::size_t in, std::size_t out, std::size_t kernel, std::size_t size, Random& random) {
  ConvCase c;
  c.shape.channels_in = in;
  c.shape.channels_out = out;
  c.shape.kernel = {1, kernel, kernel};
  c.geometry.in = c.geometry.out = {1, size, size};
  c.geometry.pads_begin = {0, static_cast<std::ptrdiff_t>(kernel / 2), static_cast<std::ptrdiff_t>(kernel / 2)};
  choose_outputs(c, random);
  return c;
}

// Several blocks of rows and of panels, tile widths and heights of every kind, and more taps than one pass has.
void test_blocks() {
  Random random(1);
  const std::size_t shapes[][4] = {{64, 80, 1, 49}, {16, 96, 1, 30}, {256, 112, 3, 7}, {3, 32, 3, 41},
                                   {1, 8, 31, 33},  {8, 24, 13, 15}, {5, 16, 12, 9},   {2, 40, 25, 9}};
  for (const auto& [in, out, kernel, size] : shapes) {
    ConvCase c = layer(in, out, kernel, size, random);
    if (kernel % 2 == 0) --c.geometry.out[1], --c.geometry.out[2];
    fill(c, random);
    compare(c);
  }
}

// Matrix products of every number of rows around the tiles', with columns that end inside a vector.
void test_matrix_products() {
  for (std::size_t rows = 1; rows <= 27; ++rows) {
    Random random(static_cast<unsigned>(rows));
    ConvCase c;
    c.shape.transposed = true;
    c.shape.channels_in = random.upto(1, 150);
    c.shape.channels_out = random.upto(1, 150);
    c.geometry.batch = rows;
    choose_outputs(c, random);
    fill(c, random);
    compare(c);
  }
}

// All the products that a 16-bit sum of pairs would saturate, and sums that pass the int32 range.
void test_extremes() {
  for (const std::int32_t offset : {-128, 0, 127}) {
    for (const std::int8_t weight : {std::int8_t{-128}, std::int8_t{127}}) {
      for (const std::uint8_t x : {std::uint8_t{0}, std::uint8_t{255}}) {
        Random random(3);
        ConvCase c = layer(260, 33, 3, 4, random);
        c.epilogue = "";
        c.outputs = {Quantizer{1e-5f, 3}, true, FloatLayout::kChannelsLast, Quantizer{1.0f, 0}};
        fill(c, random);
        std::fill(c.x.begin(), c.x.end(), x);
        std::fill(c.weights.begin(), c.weights.end(), weight);
        c.bias.assign(33, offset < 0 ? INT32_MAX - 5 : INT32_MIN + 5);
        c.x_offset = offset;
        compare(c);
      }
    }
  }
}

void test_epilogue_errors() {
  const char* const wrong[] = {"add 0",       "sqrt 0",    "add 0 1",     "add 0 r2", "mul 0 c2",
                               "clip 0 0",    "relu x",    "add 0 r",     "; relu 0", "clip 0 0 6 7",
                               "mul 0 1.5x",  "add 0 1.0.", "add 0 999999999999"};
  for (const char* text : wrong) {
    bool refused = false;
    try {
      Epilogue::parse(text, {1.0f, 2.0f}, 1);
    } catch (const std::invalid_argument& error) {
      refused = std::string(error.what()).find("epilogue step 1") == 0;
    }
    CHECK(refused, text);
  }
}

}  // namespace

int main(int argc, char** argv) {
  test_epilogue_errors();
  test_matrix_products();
  test_extremes();
  test_blocks();
  test_random_layers(argc > 1 ? static_cast<unsigned>(std::stoul(argv[1])) : 600);
  return check::finish("qconv_test");
}
