// Memory that begins at a cache line: vectors that the kernels load 64 bytes at a time never straddle two lines.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace ort_quant {

template <class T>
struct LineAllocator {
  using value_type = T;

  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}

  T* allocate(std::size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, kLine); }

  template <class U>
  bool operator==(const LineAllocator<U>&) const { return true; }
  template <class U>
  bool operator!=(const LineAllocator<U>&) const { return false; }

 private:
  static constexpr std::align_val_t kLine{64};
};

template <class T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

}  // namespace ort_quant
