// Memory for packed weights. Every run reads all of them, and there are more than small pages' translations can be
// kept for: large ones share huge pages where the system has them (measured on ResNet-50: 2.5 % of the time).
#pragma once

#include <cstddef>
#include <vector>

namespace ort_quant {

// Aligned to a cache line. May be called on several threads at once.
void* allocate_weights(std::size_t bytes);
void free_weights(void* memory, std::size_t bytes);
std::size_t shared_weight_bytes();  // of all the huge pages in use

template <class T>
struct WeightAllocator {
  using value_type = T;

  WeightAllocator() = default;
  template <class U>
  WeightAllocator(const WeightAllocator<U>&) {}

  T* allocate(std::size_t count) { return static_cast<T*>(allocate_weights(count * sizeof(T))); }
  void deallocate(T* memory, std::size_t count) { free_weights(memory, count * sizeof(T)); }

  template <class U>
  bool operator==(const WeightAllocator<U>&) const { return true; }
  template <class U>
  bool operator!=(const WeightAllocator<U>&) const { return false; }
};

template <class T>
using WeightVector = std::vector<T, WeightAllocator<T>>;

}  // namespace ort_quant
