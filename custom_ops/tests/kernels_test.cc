// Every kernel of every instruction set that this machine has, against the oracle: bit for bit, over lengths around the
// vector width and the block size, and from misaligned addresses.

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "deq_scale.h"
#include "dmq.h"
#include "isa.h"
#include "kernel_overloads.h"
#include "reference.h"
#include "search_n.h"
#include "test_data.h"

namespace {

using namespace ort_quant;

bool same_bits(float a, float b) { return float_bits(a) == float_bits(b) || (std::isnan(a) && std::isnan(b)); }
bool same_bits(Half a, Half b) { return a.bits == b.bits || same_bits(half_to_float(a), half_to_float(b)); }
bool same_bits(std::int8_t a, std::int8_t b) { return a == b; }

float number(float x) { return x; }
float number(Half x) { return half_to_float(x); }
float number(std::int8_t x) { return x; }

void convert(float x, float& y) { y = x; }
void convert(float x, Half& y) { y = float_to_half(x); }

template <class T>
std::vector<T> converted(const std::vector<float>& values) {
  std::vector<T> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) convert(values[i], result[i]);
  return result;
}

// Runs `kernel(x, y, n)` over all lengths and offsets and compares y[i] with `expected(x[i], i)`.
template <class In, class Out, class Kernel, class Expected>
void compare(const char* what, const KernelTable& table, Kernel kernel, Expected expected) {
  for (std::size_t length : kLengths) {
    for (std::size_t offset : kOffsets) {
      const auto x = converted<In>(interesting_values(offset + length, static_cast<unsigned>(length)));
      std::vector<Out> y(offset + length + 1);
      std::memset(static_cast<void*>(y.data()), 0x5A, y.size() * sizeof(Out));
      const Out guard = y.back();
      kernel(x.data() + offset, y.data() + offset, length);
      for (std::size_t i = 0; i < length; ++i) {
        const Out want = expected(x[offset + i], i);
        CHECK(same_bits(y[offset + i], want), table.name, what, "length", length, "index", i, "x",
              number(x[offset + i]), "got", number(y[offset + i]), "want", number(want));
      }
      CHECK(std::memcmp(&guard, &y.back(), sizeof(Out)) == 0, table.name, what, "wrote past the end, length", length);
    }
  }
}

template <class In, class Out>
void test_quantize(const KernelTable& table) {
  for (const QuantizeParams params : {QuantizeParams{3.7f, -5.0f, -128.0f, 127.0f, false},
                                      QuantizeParams{1.0f, 0.0f, -8.0f, 7.0f, false},
                                      QuantizeParams{0.25f, 100.0f, -128.0f, 127.0f, true}}) {
    compare<In, Out>(
        "quantize", table, [&](const In* x, Out* y, std::size_t n) { quantize(table, x, y, n, params); },
        [&](In x, std::size_t) {
          Out y;
          if constexpr (sizeof(Out) == 1) {
            y = reference::quantize_int8(number(x), params);
          } else {
            convert(reference::quantize(number(x), params), y);
          }
          return y;
        });
  }
}

template <class In, class Out>
void test_dequantize(const KernelTable& table) {
  for (const DequantizeParams params : {DequantizeParams{0.37f, 1.0f, 1.0f, -0x1p31f, 0x1p31f, false, false},
                                        DequantizeParams{0.37f, 8.0f, 0.125f, -32768.0f, 32767.0f, true, false},
                                        DequantizeParams{1e-3f, 1.0f, 1.0f, -0x1p31f, 0x1p31f, false, true}}) {
    const auto expected = [&](float x, const DequantizeParams& p) {
      Out y;
      convert(reference::dequantize(x, p), y);
      return y;
    };
    compare<In, Out>(
        "dequantize", table, [&](const In* x, Out* y, std::size_t n) { dequantize(table, x, y, n, params); },
        [&](In x, std::size_t) { return expected(number(x), params); });
    if (params.shifted) continue;
    const auto scale_of = [](std::size_t i) { return 0.01f * static_cast<float>(i % 91 + 1); };
    compare<In, Out>(
        "dequantize_each", table,
        [&](const In* x, Out* y, std::size_t n) {
          std::vector<float> scales;
          for (std::size_t i = 0; i < n; ++i) scales.push_back(scale_of(i));
          dequantize_each(table, x, y, n, scales.data(), params);
        },
        [&](In x, std::size_t i) {
          DequantizeParams one = params;
          one.scale = scale_of(i);
          return expected(number(x), one);
        });
  }
  compare<In, Out>(
      "scale_values", table, [&](const In* x, Out* y, std::size_t n) { scale_values(table, x, y, n, 0.7f); },
      [&](In x, std::size_t) {
        Out y;
        convert(number(x) * 0.7f, y);
        return y;
      });
}

void test_scan(const KernelTable& table) {
  for (std::size_t length : kLengths) {
    for (std::size_t offset : kOffsets) {
      std::vector<float> x = interesting_values(offset + length, 7);
      for (int pass = 0; pass < 2; ++pass) {
        const ScanResult got = table.scan(x.data() + offset, length);
        const ScanResult want = reference::scan(x.data() + offset, length);
        CHECK(got.min == want.min && got.max == want.max, table.name, "scan", length, got.min, got.max, want.min,
              want.max);
        CHECK(got.nan_count == want.nan_count && got.inf_count == want.inf_count, table.name, "scan", length,
              got.nan_count, want.nan_count, got.inf_count, want.inf_count);
        for (float& value : x) {  // second pass: all finite, the fast path
          if (!std::isfinite(value)) value = 1.0f;
        }
      }
    }
  }
}

// Relative bound: 128 sequential float32 additions per lane, each within 2^-24, and the error of the product with 1/S.
void test_candidate_losses(const KernelTable& table) {
  for (bool asymmetric : {true, false}) {
    for (std::size_t length : kLengths) {
      IfmrParams params;
      params.asymmetric = asymmetric;
      const std::vector<float> x = normal_values(length + 1, 3);
      const CandidateRanges ranges = candidate_ranges(-5.0f, 6.0f, params);
      const CandidateGrid grid = ranges.grid();
      std::vector<double> loss(grid.count, 0.0);
      std::vector<double> scalar(grid.count, 0.0);
      table.add_candidate_losses(x.data() + 1, length, grid, loss.data());
      available_kernels().front()->add_candidate_losses(x.data() + 1, length, grid, scalar.data());
      for (std::size_t i = 0; i < grid.count; ++i) {
        const double want = reference::candidate_loss(x.data() + 1, length, grid, i);
        CHECK(std::fabs(loss[i] - want) <= want * 2e-5 + 1e-12, table.name, "loss", length, i, loss[i], want);
        CHECK(loss[i] == scalar[i], table.name, "loss differs from scalar", length, i);
      }
    }
  }
}

void test_ifmr(const KernelTable& table) {
  for (bool asymmetric : {true, false}) {
    for (std::size_t length : {std::size_t{1}, std::size_t{2}, std::size_t{100}, std::size_t{5000}, std::size_t{300000}}) {
      IfmrParams params;
      params.asymmetric = asymmetric;
      params.max_percentile = length > 1000 ? 0.999f : 0.999999f;
      const std::vector<float> x = normal_values(length, 11);
      const Range got = ifmr({x.data(), x.size()}, params, table, for_each_serial);
      const Range want = reference::ifmr(x, params);
      CHECK(got.scale == want.scale && got.offset == want.offset, table.name, "ifmr", length, got.scale, want.scale);
      // The order in which work is done must not matter.
      const Range backwards =
          ifmr({x.data(), x.size()}, params, table, [](std::size_t count, const std::function<void(std::size_t)>& body) {
            for (std::size_t i = count; i-- > 0;) body(i);
          });
      CHECK(backwards.scale == got.scale && backwards.offset == got.offset, table.name, "ifmr order", length);
    }
  }
}

void test_selection() {
  for (std::size_t count : {1u, 2u, 10u, 1000u, 20000u}) {
    const std::vector<float> x = normal_values(count, 5);
    std::vector<float> sorted = x;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t rank : {std::size_t{1}, std::size_t{2}, count / 2, count}) {
      if (rank == 0 || rank > count) continue;
      CHECK(nth_largest({x.data(), count}, rank) == sorted[count - rank], count, rank);
      CHECK(nth_smallest({x.data(), count}, rank) == sorted[rank - 1], count, rank);
    }
  }
}

void test_candidate_count() {
  const auto count = [](float start, float end, float step) {
    IfmrParams params;
    params.start = start;
    params.end = end;
    params.step = step;
    return candidate_count(params);
  };
  CHECK(count(0.7f, 1.3f, 0.01f) == 60, count(0.7f, 1.3f, 0.01f));
  CHECK(count(0.8f, 1.2f, 0.02f) == 21, count(0.8f, 1.2f, 0.02f));
  CHECK(count(0.7f, 1.3f, 0.02f) == 30, count(0.7f, 1.3f, 0.02f));
  CHECK(count(0.8f, 1.2f, 0.01f) == 41, count(0.8f, 1.2f, 0.01f));
  CHECK(count(0.5f, 1.5f, 0.01f) == 101, count(0.5f, 1.5f, 0.01f));
}

void test_percentile_rank() {
  CHECK(percentile_rank(1.0f, 1000) == 1);
  CHECK(percentile_rank(0.999f, 20000) == 20);
  CHECK(percentile_rank(0.999999f, 100) == 1);
  CHECK(percentile_rank(0.99999994f, 16777216) >= 1);
  CHECK(percentile_rank(0.999999f, 460000000) > 400 && percentile_rank(0.999999f, 460000000) < 500);
}

void test_scale_limits() {
  const auto refuses = [](float scale) {
    try {
      sanitise_scale(scale, kSmallestScale);
      return false;
    } catch (const CalibrationFailure&) {
      return true;
    }
  };
  for (float smallest : {kSmallestScale, kSmallestHfmgScale}) {
    CHECK(sanitise_scale(0.0f, smallest) == 1.0f && sanitise_scale(0.5f, smallest) == 0.5f, smallest);
    CHECK(sanitise_scale(smallest, smallest) == smallest, smallest);
    CHECK(sanitise_scale(std::nextafterf(smallest, 0.0f), smallest) == 1.0f, smallest);
  }
  CHECK(kSmallestScale == 1.1920929e-7f && kSmallestHfmgScale == 2.220446049250313e-16f);
  CHECK(refuses(1e7f) && refuses(std::numeric_limits<float>::infinity()));
  CHECK(refuses(std::numeric_limits<float>::quiet_NaN()));
}

// All 65536 binary16 values survive the round trip; conversion back is the nearest, ties to even.
void test_half() {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const float wide = half_to_float(half);
    if (!std::isnan(wide)) CHECK(float_to_half(wide).bits == half.bits, bits);
    for (const KernelTable* table : available_kernels()) {
      float widened;
      table->widen(&half, &widened, 1);
      CHECK(same_bits(widened, wide), table->name, bits);
    }
  }
  for (unsigned bits = 0; bits < 0x7BFF; ++bits) {
    const float low = half_to_float({static_cast<std::uint16_t>(bits)});
    const float high = half_to_float({static_cast<std::uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    const unsigned even = bits % 2 == 0 ? bits : bits + 1;
    CHECK(float_to_half(middle).bits == even, "tie", bits);
    CHECK(float_to_half(std::nextafterf(middle, 0.0f)).bits == bits, "below the tie", bits);
    CHECK(float_to_half(std::nextafterf(middle, 1e9f)).bits == bits + 1, "above the tie", bits);
  }
}

void test_deq_scale() {
  const DeqScale value = unpack_deq_scale(0x0000000540490FDBull);
  CHECK(value.shift == 5 && value.scale == 3.14159274f, value.scale);
  CHECK(pack_deq_scale(value) == 0x0000000540490FDBull);
  CHECK(truncate_deq_scale(3.14159274f) == 3.140625f, truncate_deq_scale(3.14159274f));
  CHECK(half_precision_scale(0.1f) == 0.0999755859375f);
  CHECK(half_precision_scale(1e-6f) == round_to_half(1e-3f) * round_to_half(1e-3f));
}

// AMCT's published results.
void test_search_n() {
  const std::vector<float> rows[] = {{100, -101, 7}, {70000, -123457, 33333}, {5000000, -4000001, 1234567}};
  const int want[] = {1, 2, 8};
  for (int i = 0; i < 3; ++i) {
    for (ShiftDivision division : {ShiftDivision::kTruncate, ShiftDivision::kFloor}) {
      ShiftSearch search;
      search.add({rows[i].data(), rows[i].size()}, 1.0f, division);
      CHECK(search.best() == want[i], i, search.best(), want[i]);
    }
  }
  CHECK(ShiftSearch().best() == 1, "equal errors go to the smallest shift");
}

void test_dmq() {
  const std::vector<float> factors = dmq_factors({4, 0.5f, 0, 3}, {0.5f, 2, 1, 0}, 0.5f);
  const float want[] = {2.82842708f, 0.5f, 1.41421354f, 2.12132049f};
  for (int c = 0; c < 4; ++c) CHECK(std::fabs(factors[c] - want[c]) <= want[c] * 1.2e-7f, c, factors[c], want[c]);
  for (float factor : dmq_factors({0, 0}, {1, 2}, 0.5f)) CHECK(factor == 1.0f, factor);
  CHECK(dmq_factors({0, 1}, {0, 1}, 0.5f)[0] == 1.0f);
  CHECK(dmq_factors({0, 1}, {1, 0}, 0.5f) == std::vector<float>({1.0f, 1.0f}), "no channel to balance against");
  try {
    dmq_factors({1e30f}, {1}, 0.5f);
    CHECK(false, "a factor out of range was accepted");
  } catch (const CalibrationFailure&) {
  }
}

void test_isa_choice() {
  CHECK(std::string(select_kernels("scalar").name) == "scalar");
  CHECK(&select_kernels(nullptr) == available_kernels().back() && &select_kernels("") == available_kernels().back());
  try {
    select_kernels("sse9");
    CHECK(false, "an unknown instruction set was accepted");
  } catch (const std::invalid_argument& error) {
    CHECK(std::string(error.what()).find("scalar") != std::string::npos, error.what());
  }
}

Range hfmg_of(const std::vector<std::vector<float>>& batches, std::size_t bins, bool asymmetric = true) {
  Histogram histogram(bins);
  for (const auto& batch : batches) histogram.add({batch.data(), batch.size()}, select_kernels(nullptr), for_each_serial);
  HfmgParams params;
  params.bins = bins;
  params.asymmetric = asymmetric;
  return hfmg(histogram, params);
}

void test_hfmg() {
  // Few bins leave the search without candidates: the full range is taken.
  const Range full = hfmg_of({{-1.0f, 0.0f, 1.0f}}, 1);
  CHECK(std::fabs(full.scale - 2.0f / 255.0f) < 1e-7f, full.scale);
  // A constant batch, and one of zeros.
  CHECK(hfmg_of({{0.0f, 0.0f}}, 1024).scale == 1.0f);
  CHECK(hfmg_of({{3.0f, 3.0f}}, 1024, false).scale == 3.0f / 127.0f);
  // HFMG's scales go far below FLT_EPSILON. Bins as narrow as here all count in the middle one, and with all losses 0 the
  // first candidate wins: what lies right of the middle.
  const std::vector<float> narrow = {-1e-5f, -4e-6f, 3e-6f, 1e-5f};
  CHECK(std::fabs(hfmg_of({narrow}, 4096, false).scale - 1e-5f / 127) < 1e-13f, hfmg_of({narrow}, 4096, false).scale);
  CHECK(std::fabs(hfmg_of({narrow}, 4096).scale - 1e-5f / 255) < 1e-13f, hfmg_of({narrow}, 4096).scale);
  CHECK(hfmg_of({narrow}, 4096).offset == -128, hfmg_of({narrow}, 4096).offset);
  CHECK(std::fabs(hfmg_of({narrow}, 1).scale - 2e-5f / 255) < 1e-13f, hfmg_of({narrow}, 1).scale);
  // Counts are neither lost nor made when the range grows.
  Histogram histogram(64);
  std::uint64_t total = 0;
  for (unsigned seed = 0; seed < 5; ++seed) {
    std::vector<float> batch = normal_values(1000 + seed, seed);
    for (float& value : batch) value *= static_cast<float>(seed + 1);
    histogram.add({batch.data(), batch.size()}, select_kernels(nullptr), for_each_serial);
    total += batch.size();
    std::uint64_t sum = 0;
    for (std::uint64_t count : histogram.counts()) sum += count;
    CHECK(sum == total, sum, total);
  }
}

void test_histogram_refuses_a_range_without_changing() {
  Histogram histogram(64);
  const auto add = [&](std::vector<float> batch) {
    histogram.add({batch.data(), batch.size()}, select_kernels(nullptr), for_each_serial);
  };
  add({-1.0f, 1.0f});
  const std::vector<std::uint64_t> counts = histogram.counts();
  try {
    add({-3e38f, 3e38f});
    CHECK(false, "a range beyond float32 was accepted");
  } catch (const CalibrationFailure&) {
  }
  CHECK(histogram.min() == -1.0f && histogram.max() == 1.0f && histogram.counts() == counts, histogram.min(),
        histogram.max());
}

// AMCT's unsigned bin positions make mass left of the range free (S = 0.0406, range from -5.16). With signed ones the
// outlier at -20 costs what it costs.
void test_hfmg_low_side_mass_is_not_free() {
  std::vector<float> x(1000000);
  unsigned long long state = 1;
  const auto uniform = [&] {
    state = (1103515245ull * state + 12345) % (1ull << 31);
    return static_cast<double>(state) / 2147483648.0;
  };
  for (float& value : x) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += uniform();
    value = static_cast<float>(3 * (sum - 2));
  }
  x[777] = -20.0f;
  const Range range = hfmg_of({x}, 4096);
  CHECK(range.scale == 0.042893786f && range.offset == 0, range.scale, range.offset);
}

}  // namespace

int main() {
  for (const KernelTable* table : available_kernels()) {
    std::printf("kernels: %s\n", table->name);
    test_quantize<float, float>(*table);
    test_quantize<Half, Half>(*table);
    test_quantize<Half, float>(*table);
    test_quantize<float, std::int8_t>(*table);
    test_quantize<Half, std::int8_t>(*table);
    test_dequantize<float, float>(*table);
    test_dequantize<Half, Half>(*table);
    test_dequantize<float, Half>(*table);
    test_scan(*table);
    test_candidate_losses(*table);
    test_ifmr(*table);
  }
  test_selection();
  test_candidate_count();
  test_percentile_rank();
  test_scale_limits();
  test_half();
  test_deq_scale();
  test_search_n();
  test_dmq();
  test_isa_choice();
  test_hfmg();
  test_histogram_refuses_a_range_without_changing();
  test_hfmg_low_side_mass_is_not_free();
  return check::finish("kernels_test");
}
