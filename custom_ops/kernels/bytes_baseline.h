// Bytes, int32 and float32 in 16 bytes, as plain loops: what every compiler target has. Same interface as
// bytes_avx2.h and bytes_avx512.h, which say what the functions mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ort_quant::simd {
namespace {

struct BaselineBytes {
  static constexpr std::size_t kBytes = 16;
  static constexpr std::size_t kLanes = 4;
  static constexpr std::size_t kWeightBytes = 16;
  static constexpr bool kTiled = false;  // wider tiles would not stay in registers, and take minutes to compile

  struct Bytes {
    std::uint8_t at[16];
  };
  struct Ints {
    std::int32_t at[4];
  };
  struct Floats {
    float at[4];
  };
  struct Weights {
    std::int8_t at[16];
  };

  template <class To, class F>
  static To map(F&& f) {
    To result;
    for (std::size_t i = 0; i < sizeof result.at / sizeof *result.at; ++i) result.at[i] = f(i);
    return result;
  }
  template <class To>
  static To copy(const void* source, std::size_t bytes = 16) {
    To result = {};
    std::memcpy(&result, source, bytes < 16 ? bytes : 16);
    return result;
  }

  static Bytes splat_byte(std::uint8_t value) {
    return map<Bytes>([=](std::size_t) { return value; });
  }
  static Bytes load_bytes(const std::uint8_t* source) { return copy<Bytes>(source); }
  static void store_bytes(std::uint8_t* target, const Bytes& a) { std::memcpy(target, &a, 16); }
  static Bytes load_some(const std::uint8_t* source, std::size_t count) { return copy<Bytes>(source, count); }
  static void store_some(std::uint8_t* target, const Bytes& a, std::size_t count) {
    std::memcpy(target, &a, count < 16 ? count : 16);
  }

  template <std::size_t kParts>
  static Bytes load_parts(const std::uint8_t* const* at) {
    return load_bytes(at[0]);
  }

  static Bytes max_bytes(const Bytes& a, const Bytes& b) {
    return map<Bytes>([&](std::size_t i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
  }
  static Bytes unpack_low8(const Bytes& a, const Bytes& b) { return unpack<1>(a, b, 0); }
  static Bytes unpack_high8(const Bytes& a, const Bytes& b) { return unpack<1>(a, b, 8); }
  static Bytes unpack_low16(const Bytes& a, const Bytes& b) { return unpack<2>(a, b, 0); }
  static Bytes unpack_high16(const Bytes& a, const Bytes& b) { return unpack<2>(a, b, 8); }

  static Weights load_weights(const std::uint8_t* source) { return copy<Weights>(source); }
  static Ints dot(const Ints& sum, const Bytes& x, const Weights& w) {
    return map<Ints>([&](std::size_t i) {
      std::int32_t products = 0;
      for (std::size_t tap = 4 * i; tap < 4 * i + 4; ++tap) products += x.at[tap] * w.at[tap];
      return wrapped(sum.at[i], products);
    });
  }

  static Ints as_ints(const Bytes& a) { return copy<Ints>(&a); }
  static Ints splat_int(std::int32_t value) {
    return map<Ints>([=](std::size_t) { return value; });
  }
  static Ints load_ints(const void* source) { return copy<Ints>(source); }
  static void store_ints(void* target, const Ints& a) { std::memcpy(target, &a, 16); }
  static Ints add_ints(const Ints& a, const Ints& b) {
    return map<Ints>([&](std::size_t i) { return wrapped(a.at[i], b.at[i]); });
  }
  template <int kByte>
  static Ints byte_of(const Ints& a) {
    return map<Ints>([&](std::size_t i) { return a.at[i] >> (8 * kByte) & 0xFF; });
  }
  static Ints widen(const std::uint8_t* source) {
    return map<Ints>([=](std::size_t i) { return std::int32_t{source[i]}; });
  }

  static Floats splat(float value) {
    return map<Floats>([=](std::size_t) { return value; });
  }
  static Floats load(const void* source) { return copy<Floats>(source); }
  static void store(void* target, const Floats& a) { std::memcpy(target, &a, 16); }
  static Floats to_floats(const Ints& a) {
    return map<Floats>([&](std::size_t i) { return static_cast<float>(a.at[i]); });
  }
  static Floats add(const Floats& a, const Floats& b) {
    return map<Floats>([&](std::size_t i) { return a.at[i] + b.at[i]; });
  }
  static Floats mul(const Floats& a, const Floats& b) {
    return map<Floats>([&](std::size_t i) { return a.at[i] * b.at[i]; });
  }
  static Floats div(const Floats& a, const Floats& b) {
    return map<Floats>([&](std::size_t i) { return a.at[i] / b.at[i]; });
  }
  static Floats max(const Floats& a, const Floats& b) {
    return map<Floats>([&](std::size_t i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
  }
  static Floats min(const Floats& a, const Floats& b) {
    return map<Floats>([&](std::size_t i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
  }
  static Floats replace_nan(const Floats& a, const Floats& by) {
    return map<Floats>([&](std::size_t i) { return a.at[i] == a.at[i] ? a.at[i] : by.at[i]; });
  }
  // Adding and subtracting 1.5·2^23 rounds to nearest even below 2^22; further away narrow() saturates whatever the
  // fraction is.
  static Ints round(const Floats& a) {
    return map<Ints>([&](std::size_t i) {
      const float value = a.at[i];
      if (!(value > -0x1p31f && value < 0x1p31f)) return INT32_MIN;
      const float magnitude = value < 0 ? -value : value;
      return static_cast<std::int32_t>(magnitude < 0x1p22f ? (value + 0x1.8p23f) - 0x1.8p23f : value);
    });
  }

  static Ints narrow_words(const Ints& a, const Ints& b, std::int32_t shift) {
    std::int16_t words[8];
    for (std::size_t i = 0; i < 8; ++i) words[i] = word(word(i < 4 ? a.at[i] : b.at[i - 4]) + shift);
    return copy<Ints>(words);
  }
  static Bytes narrow_bytes(const Ints& low, const Ints& high) {
    std::int16_t words[16];
    std::memcpy(words, &low, 16);
    std::memcpy(words + 8, &high, 16);
    return map<Bytes>([&](std::size_t i) {
      return static_cast<std::uint8_t>(words[i] < 0 ? 0 : words[i] > 255 ? 255 : words[i]);
    });
  }
  static Bytes narrow(const Ints& a, const Ints& b, const Ints& c, const Ints& d, std::int32_t shift) {
    return narrow_bytes(narrow_words(a, b, shift), narrow_words(c, d, shift));
  }
  static Bytes narrow_in_order(const Ints& a, const Ints& b, const Ints& c, const Ints& d, std::int32_t shift) {
    return narrow(a, b, c, d, shift);
  }

 private:
  static std::int16_t word(std::int32_t value) {
    return static_cast<std::int16_t>(value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value);
  }
  static std::int32_t wrapped(std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
  template <std::size_t kWidth>
  static Bytes unpack(const Bytes& a, const Bytes& b, std::size_t from) {
    return map<Bytes>([&](std::size_t i) {
      const Bytes& source = i / kWidth % 2 == 0 ? a : b;
      return source.at[from + i / (2 * kWidth) * kWidth + i % kWidth];
    });
  }
};

}  // namespace
}  // namespace ort_quant::simd
