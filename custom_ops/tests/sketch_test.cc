// The sketch: its kernels on every instruction set against the oracle, its counts against counting value by value, and
// what calibration asks of it.

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "check.h"
#include "isa.h"
#include "reference.h"
#include "sketch.h"
#include "sketch_calibration.h"
#include "test_data.h"

namespace {
std::atomic<int> allocations_left{INT_MAX};
}

// Not inlined, so that the compiler does not take malloc and free for a pair of their own.
__attribute__((noinline)) void* operator new(std::size_t size) {
  void* memory = allocations_left-- > 0 ? std::malloc(size) : nullptr;
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace ort_quant;

using Values = std::vector<float>;

const float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kLargest = std::numeric_limits<float>::max();
const float kSmallest = std::numeric_limits<float>::denorm_min();

Span<const float> span(const Values& values) { return {values.data(), values.size()}; }

void for_each_backwards(std::size_t count, const std::function<void(std::size_t)>& body) {
  for (std::size_t i = count; i-- > 0;) body(i);
}

void for_each_threaded(std::size_t count, const std::function<void(std::size_t)>& body) {
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

Values finite_values(std::size_t count, unsigned seed) {
  Values values = interesting_values(count, seed);
  for (float& value : values) {
    if (!std::isfinite(value)) value = -0.0f;
  }
  return values;
}

float largest_magnitude(const Values& values) {
  float result = 0;
  for (float value : values) result = std::max(result, std::fabs(value));
  return result;
}

// ---- kernels ---------------------------------------------------------------------------------------------------

void test_moments(const KernelTable& table) {
  const KernelTable& scalar = *available_kernels().front();
  for (std::size_t length : kLengths) {
    if (length == 0 || length > kSketchBlock) continue;
    for (std::size_t offset : kOffsets) {
      const Values x = finite_values(offset + length, static_cast<unsigned>(length));
      const BlockMoments got = table.moments(x.data() + offset, length);
      const BlockMoments want = reference::moments(x.data() + offset, length);
      CHECK(got.range.min == want.range.min && got.range.max == want.range.max, table.name, length, got.range.min);
      CHECK(std::fabs(got.total - want.total) <= 1e-13 * want.total_abs, table.name, length, got.total, want.total);
      CHECK(std::fabs(got.total_abs - want.total_abs) <= 1e-13 * want.total_abs, table.name, length, got.total_abs);
      CHECK(std::fabs(got.total_squares - want.total_squares) <= 1e-13 * want.total_squares, table.name, length);
      const BlockMoments same = scalar.moments(x.data() + offset, length);
      CHECK(got.total == same.total && got.total_abs == same.total_abs && got.total_squares == same.total_squares,
            table.name, "differs from scalar", length, got.total, same.total);
    }
  }
}

// Anything that is not finite shows in the range, wherever it stands.
void test_moments_show_what_is_not_finite(const KernelTable& table) {
  for (std::size_t length : {1u, 5u, 16u, 40u}) {
    for (std::size_t place = 0; place < length; ++place) {
      for (float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
        Values x = normal_values(length, 3);
        x[place] = bad;
        const OrderedRange range = table.moments(x.data(), length).range;
        CHECK(range.min <= kOrderedNegativeInfinity || range.max >= kOrderedPositiveInfinity, table.name, length, place);
      }
    }
  }
}

struct Counters {
  std::vector<std::uint32_t> cells = std::vector<std::uint32_t>(kCounterCopies * kCounterStride);
  std::uint32_t* middle() { return cells.data() + kBinsPerSide; }
  std::uint32_t at(std::int32_t bin) const {
    std::uint32_t sum = 0;
    const auto cell = static_cast<std::size_t>(bin + kBinsPerSide);
    for (std::size_t copy = 0; copy < kCounterCopies; ++copy) sum += cells[copy * kCounterStride + cell];
    return sum;
  }
};

void test_count_bins(const KernelTable& table, const Values& x, int exponent) {
  Counters counters;
  std::map<std::int32_t, std::uint32_t> want;
  std::size_t zeros = 0;
  for (float value : x) value == 0 ? void(++zeros) : void(++want[reference::sketch_bin(value, exponent)]);
  const std::size_t got = table.count_bins(x.data(), x.size(), std::ldexp(1.0f, -exponent), counters.middle());
  CHECK(got == zeros, table.name, x.size(), exponent, got, zeros);
  for (const auto& [bin, count] : want) CHECK(counters.at(bin) == count, table.name, exponent, bin, counters.at(bin), count);
  std::vector<std::uint32_t> drained(2 * kBinsPerSide, 7);
  table.drain_counters(counters.cells.data(), drained.data(), drained.size());
  std::uint64_t total = 0;
  for (std::uint32_t count : drained) total += count - 7;
  CHECK(total == x.size() - zeros, table.name, "drained", total, x.size() - zeros);
  CHECK(std::all_of(counters.cells.begin(), counters.cells.end(), [](std::uint32_t c) { return c == 0; }), table.name,
        "counters are left behind");
}

void test_count_bins(const KernelTable& table) {
  for (std::size_t length : kLengths) {
    if (length > kSketchBlock) continue;
    for (std::size_t offset : kOffsets) {
      const Values all = finite_values(offset + length, static_cast<unsigned>(length));
      const Values x(all.begin() + static_cast<std::ptrdiff_t>(offset), all.end());
      const int exponent = grid_exponent(largest_magnitude(x));
      test_count_bins(table, x, exponent);
      test_count_bins(table, x, std::min(exponent + 3, kMaxExponent));
    }
  }
  // The borders of bins and their neighbours, over all grids; what is tiny against the grid; subnormals.
  for (int exponent = kMinExponent; exponent <= kMaxExponent; ++exponent) {
    Values x = {kSmallest, -kSmallest, 1e-38f, -1e-38f, 0.0f, -0.0f};
    for (float bins : {1.0f, 2.0f, 3.0f, 1000.0f, 4095.0f, 8191.0f, 8192.0f}) {
      const float border = std::ldexp(bins, exponent);
      for (float value : {std::nextafterf(border, 0.0f), border, std::nextafterf(border, kInfinity)}) {
        if (!(value < std::ldexp(8192.0f, exponent))) continue;  // infinite or beyond the grid
        x.push_back(value);
        x.push_back(-value);
      }
    }
    x.erase(std::remove_if(x.begin(), x.end(), [&](float v) { return grid_exponent(std::fabs(v)) > exponent; }), x.end());
    test_count_bins(table, x, exponent);
  }
}

void test_channel_kernels(const KernelTable& table) {
  for (std::size_t length : kLengths) {
    for (std::size_t offset : kOffsets) {
      const Values x = interesting_values(offset + length, static_cast<unsigned>(length) + 1);
      OrderedRange want{ordered_bits(0.5f), ordered_bits(0.25f)};
      OrderedRange got = want;
      std::vector<std::int32_t> min(length, want.min);
      std::vector<std::int32_t> max(length, want.max);
      table.widen_ranges(x.data() + offset, length, min.data(), max.data());
      for (std::size_t i = 0; i < length; ++i) {
        const bool finite = std::isfinite(x[offset + i]);
        const std::int32_t order = ordered_bits(x[offset + i]);
        CHECK(min[i] == (finite ? std::min(order, ordered_bits(0.5f)) : ordered_bits(0.5f)), table.name, length, i);
        CHECK(max[i] == (finite ? std::max(order, ordered_bits(0.25f)) : ordered_bits(0.25f)), table.name, length, i);
        want.min = std::min(want.min, min[i]);
        want.max = std::max(want.max, max[i]);
      }
      table.widen_range(x.data() + offset, length, got);
      CHECK(got.min == want.min && got.max == want.max, table.name, "widen_range", length, got.min, want.min);
    }
  }
}

// ---- sketches --------------------------------------------------------------------------------------------------

// Counts, value by value.
Distribution expected(const Values& values) {
  Distribution d;
  Values finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite), [](float v) { return std::isfinite(v); });
  d.exponent = grid_exponent(largest_magnitude(finite));
  d.count = finite.size();
  d.minimum = kInfinity;
  d.maximum = -kInfinity;
  std::map<std::int32_t, std::uint64_t> counts;
  for (float value : finite) {
    d.minimum = std::min(d.minimum, value + 0.0f);
    d.maximum = std::max(d.maximum, value + 0.0f);
    value == 0 ? void(++d.zeros) : void(++counts[reference::sketch_bin(value, d.exponent)]);
  }
  if (counts.empty()) return d;
  d.first_bin = counts.begin()->first;
  d.counts.resize(static_cast<std::size_t>(counts.rbegin()->first - d.first_bin + 1));
  for (const auto& [bin, count] : counts) d.counts[static_cast<std::size_t>(bin - d.first_bin)] = count;
  return d;
}

void check_equal(const Distribution& got, const Distribution& want, const char* what) {
  CHECK(got.exponent == want.exponent, what, got.exponent, want.exponent);
  CHECK(got.first_bin == want.first_bin, what, got.first_bin, want.first_bin);
  CHECK(got.counts == want.counts, what, got.counts.size(), want.counts.size());
  CHECK(got.count == want.count && got.zeros == want.zeros, what, got.count, want.count, got.zeros, want.zeros);
  CHECK(float_bits(got.minimum) == float_bits(want.minimum), what, got.minimum, want.minimum);
  CHECK(float_bits(got.maximum) == float_bits(want.maximum), what, got.maximum, want.maximum);
}

Values relu(Values values) {
  for (float& value : values) value = std::max(value, 0.0f);
  return values;
}

std::vector<std::vector<Values>> batch_sets() {
  return {
      {{}},
      {{0.0f, -0.0f}},
      {{-0.0f}, {}, {kSmallest, -kSmallest}},
      {{1e-30f, -1e-30f}, {1e30f}},
      {{1e30f}, {1e-30f, -1e-30f, -kSmallest}},
      {{kLargest, -kLargest, kSmallest, -kSmallest, 1.0f}},
      {{kNan, kInfinity, -kInfinity, -kInfinity}, {kNan, 3.0f}},
      {Values(5000, -7.25f)},
      {interesting_values(70000, 1), interesting_values(3, 2), normal_values(200000, 3)},
      {relu(normal_values(300000, 4)), normal_values(100, 5)},
      {normal_values(131072, 6), Values(65536 * 3 + 1, 100.0f)},
  };
}

void test_sketch_counts(const KernelTable& table) {
  for (const std::vector<Values>& batches : batch_sets()) {
    Values all;
    Sketch sketch;
    Sketch merged;
    for (const Values& batch : batches) {
      all.insert(all.end(), batch.begin(), batch.end());
      sketch.add(span(batch), table, for_each_serial);
      Sketch one;
      one.add(span(batch), table, for_each_backwards);
      one.merge(merged);
      merged = one;
    }
    const Distribution want = expected(all);
    check_equal(sketch.distribution(), want, table.name);
    check_equal(merged.distribution(), want, "merged");
    Sketch whole;
    whole.add(span(all), table, for_each_threaded);
    check_equal(whole.distribution(), want, "threads");
    CHECK(whole.moments().nan == sketch.moments().nan && sketch.moments().nan ==
              static_cast<std::uint64_t>(std::count_if(all.begin(), all.end(), [](float v) { return std::isnan(v); })));
    CHECK(whole.moments().positive_infinity == sketch.moments().positive_infinity);
    CHECK(sketch.moments().negative_infinity ==
          static_cast<std::uint64_t>(std::count(all.begin(), all.end(), -kInfinity)));
    Sketch again;
    again.add(span(all), table, for_each_backwards);
    CHECK(again.serialize("k") == whole.serialize("k"), table.name, "the order of parts matters");
    Sketch scalar;
    scalar.add(span(all), *available_kernels().front(), for_each_serial);
    CHECK(scalar.serialize("k") == whole.serialize("k"), table.name, "the instruction set matters");
  }
}

void test_half(const KernelTable& table) {
  const Values values = interesting_values(150000, 8);
  std::vector<Half> half;
  Values wide;
  for (float value : values) {
    half.push_back(float_to_half(value));
    wide.push_back(half_to_float(half.back()));
  }
  Sketch narrow;
  narrow.add(Span<const Half>{half.data(), half.size()}, table, for_each_serial);
  check_equal(narrow.distribution(), expected(wide), table.name);
}

void test_channels(const KernelTable& table) {
  struct Case {
    std::size_t outer, channels, inner;
  };
  for (const Case c : {Case{2, 3, 5}, Case{1, 1, 70000}, Case{300, 257, 1}, Case{7, 4, 3000}, Case{0, 3, 4}, Case{2, 0, 4}}) {
    Values x = interesting_values(c.outer * c.channels * c.inner, 9);
    Sketch sketch;
    sketch.add(span(x), table, for_each_threaded, {c.channels, c.inner});
    const std::vector<std::uint8_t> bytes = sketch.serialize("", 1);
    Values want(2 * c.channels, kInfinity);
    std::fill(want.begin() + static_cast<std::ptrdiff_t>(c.channels), want.end(), -kInfinity);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!std::isfinite(x[i])) continue;
      const std::size_t channel = i / c.inner % c.channels;
      want[channel] = std::min(want[channel], x[i] + 0.0f);
      want[c.channels + channel] = std::max(want[c.channels + channel], x[i] + 0.0f);
    }
    const std::size_t size = want.size() * sizeof(float);
    CHECK(want.empty() || std::memcmp(bytes.data() + bytes.size() - 4 - size, want.data(), size) == 0, table.name,
          c.outer, c.channels, c.inner);
  }
}

// Subnormals count as what they are where the runtime has the CPU take them as zero.
void test_flush_to_zero(const KernelTable& table) {
#if defined(__SSE__)
  Values x = {kSmallest, -kSmallest, 1e-39f, -1e-39f, 0.0f, -0.0f};
  x.resize(40, -1e-40f);
  const Distribution want = expected(x);
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040u);
  Sketch sketch;
  sketch.add(span(x), table, for_each_serial, {x.size(), 1});
  Sketch lowest;
  lowest.add(span({-kSmallest}), table, for_each_serial);
  const Distribution got = sketch.distribution();
  const Distribution single = lowest.distribution();
  _mm_setcsr(mode);
  check_equal(got, want, table.name);
  check_equal(single, expected({-kSmallest}), table.name);
#else
  (void)table;
#endif
}

void test_counters_beyond_32_bits() {
  const KernelTable& kernels = *available_kernels().back();
  constexpr std::uint32_t kMany = 4000000000u;
  BinCounts bins;
  for (int round = 0; round < 3; ++round) {
    Counters counters;
    counters.middle()[-3] = kMany;
    counters.middle()[5] = 1000;
    bins.drain(counters.middle(), -3, 5, std::uint64_t{kMany} + 1000, 0, kernels);
  }
  CHECK(bins[-3] == 3ull * kMany && bins[5] == 3000, bins[-3], bins[5]);
  BinCounts twice = bins;
  twice.merge(bins);
  CHECK(twice[-3] == 6ull * kMany && twice[5] == 6000, twice[-3]);
  twice.coarsen(1);
  CHECK(twice[-2] == 6ull * kMany && twice[2] == 6000 && twice[-3] == 0, twice[-2], twice[2]);
  Counters late;  // counted on a finer grid than the sketch has by now
  late.middle()[-1] = 1;
  late.middle()[3] = 2;
  twice.drain(late.middle(), -1, 3, 3, 0, kernels);
  CHECK(twice[-1] == 1 && twice[1] == 2, twice[-1], twice[1]);
  twice.coarsen(kMaxExponent);
  CHECK(twice[-1] == 6ull * kMany + 1 && twice[0] == 6002, twice[-1], twice[0]);
}

// As calibration/sketch.py writes it, all bytes.
void test_serialized_form() {
  const Values x = {1.0f, 1.0002441f, 0.0f, kNan, 1.0f, kInfinity};
  Sketch sketch;
  sketch.add(span(x), *available_kernels().back(), for_each_serial, {3, 1});
  static const char* kWant =
      "4f51534b010001008d000000f4ffffff0400000000000000010000000000000001000000000000000100000000000000000000000000000000"
      "0000000008803f00000000800008400000000080000840000000080001084000100000020000000100030074c3a9020101000000030000000000"
      "803f0000803f000000000000803f0008803f0000000003070ea0";
  std::string got;
  for (std::uint8_t byte : sketch.serialize("t\xC3\xA9", 1)) {
    got += "0123456789abcdef"[byte >> 4];
    got += "0123456789abcdef"[byte & 15];
  }
  CHECK(got == kWant, got);
  try {
    sketch.serialize(std::string(kLongestKey + 1, 'x'));
    CHECK(false, "a key that has no room was accepted");
  } catch (const std::length_error&) {
  }
}

// Wherever memory runs out, the sketch stays one of some data, and nothing of the failure shows in later ones.
void test_out_of_memory() {
  const KernelTable& kernels = *available_kernels().back();
  const Values before = relu(normal_values(3000, 2));
  const Values batch = normal_values(5000, 1);
  bool thrown = true;
  int failures = 0;
  for (int allocations = 0; thrown; ++allocations) {
    Sketch sketch;
    sketch.add(span(before), kernels, for_each_serial);
    thrown = false;
    allocations_left = allocations;
    try {
      sketch.add(span(batch), kernels, for_each_serial);
    } catch (const std::bad_alloc&) {
      thrown = true;
      ++failures;
    }
    allocations_left = INT_MAX;
    if (thrown) check_equal(sketch.distribution(), expected(sketch.empty() ? Values() : before), "after a failure");
    Sketch next;
    next.add(span(batch), kernels, for_each_serial);
    check_equal(next.distribution(), expected(batch), "the next sketch");
  }
  CHECK(failures > 1, failures);
}

// ---- what calibration asks -------------------------------------------------------------------------------------

Distribution sketched(const Values& values) {
  Sketch sketch;
  sketch.add(span(values), *available_kernels().back(), for_each_serial);
  return sketch.distribution();
}

void test_ranks() {
  for (Values x : {normal_values(3000, 1), relu(normal_values(2000, 2)), Values{-1.0f, 0.0f, 0.0f}, Values{2.0f}}) {
    const Distribution d = sketched(x);
    std::sort(x.begin(), x.end());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double got = nth_smallest(d, i + 1);
      CHECK(std::fabs(got - x[i]) <= d.width(), "rank", i, got, x[i]);
      CHECK(nth_largest(d, x.size() - i) == got, "rank from above", i);
      if (x[i] == 0 || i == 0 || i + 1 == x.size()) CHECK(got == x[i], "exact", i, got, x[i]);
    }
  }
}

void test_cumulative() {
  const Values x = {-2.0f, -1.0f, 0.0f, 0.0f, 1.0f, 4.0f, 4.0f};
  const std::vector<double> below = cumulative(sketched(x), {-3, -2, -1.5, -0.5, 0, 0.5, 2, 4, 5});
  CHECK((below == std::vector<double>{0, 0, 1, 2, 2, 4, 5, 7, 7}));
  CHECK((cumulative(sketched({0.0f}), {-1, 0, 1}) == std::vector<double>{0, 0, 1}));
  CHECK((cumulative(sketched({3.0f, 3.0f}), {2, 3, 4}) == std::vector<double>{0, 0, 2}));
}

double loss_of(const Values& values, Range range, int bits) {
  const double lowest = -std::ldexp(1.0, bits - 1);
  double loss = 0;
  for (float value : values) {
    const double code = std::nearbyint(static_cast<double>(value) / range.scale) + range.offset;
    const double restored = (std::clamp(code, lowest, -lowest - 1) - range.offset) * range.scale;
    loss += (restored - value) * (restored - value);
  }
  return loss;
}

// The range found on a sketch is as good as the one found on all values.
void test_sketch_calibration() {
  const KernelTable& kernels = *available_kernels().back();
  for (const Values& x : {normal_values(100000, 1), relu(normal_values(100000, 2)), normal_values(50, 3)}) {
    for (bool asymmetric : {true, false}) {
      IfmrParams ifmr_params;
      ifmr_params.asymmetric = asymmetric;
      const double exact = loss_of(x, ifmr(span(x), ifmr_params, kernels, for_each_serial), 8);
      const double sketch = loss_of(x, ifmr(sketched(x), ifmr_params, for_each_backwards), 8);
      CHECK(sketch <= exact * 1.01, "ifmr", x.size(), asymmetric, sketch, exact);
      HfmgParams hfmg_params;
      hfmg_params.asymmetric = asymmetric;
      Histogram histogram(hfmg_params.bins);
      histogram.add(span(x), kernels, for_each_serial);
      const double hfmg_exact = loss_of(x, hfmg(histogram, hfmg_params), 8);
      const double hfmg_sketch = loss_of(x, hfmg(sketched(x), hfmg_params), 8);
      CHECK(hfmg_sketch <= hfmg_exact * 1.01, "hfmg", x.size(), asymmetric, hfmg_sketch, hfmg_exact);
    }
  }
  try {
    hfmg(sketched({-3e38f, 3e38f}), HfmgParams{});
    CHECK(false, "a range beyond float32 was accepted");
  } catch (const CalibrationFailure&) {
  }
}

}  // namespace

int main() {
  for (const KernelTable* table : available_kernels()) {
    std::printf("kernels: %s\n", table->name);
    test_moments(*table);
    test_moments_show_what_is_not_finite(*table);
    test_count_bins(*table);
    test_channel_kernels(*table);
    test_sketch_counts(*table);
    test_half(*table);
    test_channels(*table);
    test_flush_to_zero(*table);
  }
  test_counters_beyond_32_bits();
  test_serialized_form();
  test_out_of_memory();
  test_ranks();
  test_cumulative();
  test_sketch_calibration();
  return check::finish("sketch_test");
}
