// The serialized form of a sketch (docs/reference/formats.md): little-endian, the counters as narrow as they can be.
#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "sketch.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are written as they lie in memory");

namespace ort_quant {
namespace {

constexpr std::uint16_t kVersion = 1;
constexpr std::uint16_t kHasChannels = 1;
constexpr std::size_t kSizeField = 8;  // where the size of the whole is stated

// CRC-32 as in zlib and Ethernet.
std::uint32_t checksum(const std::vector<std::uint8_t>& bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      std::uint32_t value = byte;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1u) != 0 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
      entries[byte] = value;
    }
    return entries;
  }();
  std::uint32_t sum = 0xFFFFFFFFu;
  for (std::uint8_t byte : bytes) sum = table[(sum ^ byte) & 0xFFu] ^ (sum >> 8);
  return ~sum;
}

class Writer {
 public:
  template <class T>
  void put(T value) {
    put_bytes(&value, sizeof value);
  }
  void put_bytes(const void* data, std::size_t size) {
    const auto* first = static_cast<const std::uint8_t*>(data);
    bytes.insert(bytes.end(), first, first + size);
  }
  template <class Counter>
  void put_counts(const std::vector<std::uint64_t>& counts) {
    for (std::uint64_t count : counts) put(static_cast<Counter>(count));
  }
  void put_ranges(const std::vector<std::int32_t>& ordered) {
    for (std::int32_t value : ordered) put(float_from_ordered(value));
  }

  std::vector<std::uint8_t> bytes;
};

std::uint8_t counter_bytes(const std::vector<std::uint64_t>& counts) {
  const std::uint64_t largest = counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
  if (largest <= UINT8_MAX) return 1;
  if (largest <= UINT16_MAX) return 2;
  return largest <= UINT32_MAX ? 4 : 8;
}

}  // namespace

std::vector<std::uint8_t> Sketch::serialize(const std::string& key, std::optional<std::int32_t> axis) const {
  if (key.size() > kLongestKey) throw std::length_error("the key of a sketch is too long");
  const Distribution bins = distribution();
  const std::uint8_t width = counter_bytes(bins.counts);
  Writer writer;
  writer.put_bytes("OQSK", 4);
  writer.put(kVersion);
  writer.put(axis ? kHasChannels : std::uint16_t{0});
  writer.put(std::uint32_t{0});  // the size, below
  writer.put(static_cast<std::int32_t>(bins.exponent));
  for (std::uint64_t count : {moments_.count, moments_.zeros, moments_.nan, moments_.positive_infinity,
                              moments_.negative_infinity}) {
    writer.put(count);
  }
  writer.put(bins.minimum);
  writer.put(bins.maximum);
  writer.put(moments_.total);
  writer.put(moments_.total_abs);
  writer.put(moments_.total_squares);
  writer.put(bins.first_bin);
  writer.put(static_cast<std::uint32_t>(bins.counts.size()));
  writer.put(width);
  writer.put(std::uint8_t{0});
  writer.put(static_cast<std::uint16_t>(key.size()));
  writer.put_bytes(key.data(), key.size());
  switch (width) {
    case 1: writer.put_counts<std::uint8_t>(bins.counts); break;
    case 2: writer.put_counts<std::uint16_t>(bins.counts); break;
    case 4: writer.put_counts<std::uint32_t>(bins.counts); break;
    default: writer.put_counts<std::uint64_t>(bins.counts);
  }
  if (axis) {
    writer.put(*axis);
    writer.put(static_cast<std::uint32_t>(channel_min_.size()));
    writer.put_ranges(channel_min_);
    writer.put_ranges(channel_max_);
  }
  const std::size_t size = writer.bytes.size() + sizeof(std::uint32_t);
  if (size > UINT32_MAX) throw std::length_error("a sketch of so many channels has no serialized form");
  const auto stated = static_cast<std::uint32_t>(size);
  std::memcpy(writer.bytes.data() + kSizeField, &stated, sizeof stated);
  writer.put(checksum(writer.bytes));
  return std::move(writer.bytes);
}

}  // namespace ort_quant
