// A pointer and a length. C++17 has no std::span; this is the part of it that the kernels need.
#pragma once

#include <cstddef>

namespace ort_quant {

template <class T>
struct Span {
  T* data = nullptr;
  std::size_t size = 0;

  T* begin() const { return data; }
  T* end() const { return data + size; }
  T& operator[](std::size_t index) const { return data[index]; }
  bool empty() const { return size == 0; }
  Span subspan(std::size_t offset, std::size_t count) const { return {data + offset, count}; }
  operator Span<const T>() const { return {data, size}; }
};

}  // namespace ort_quant
