#include "weight_memory.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ort_quant {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = 2 << 20;
constexpr std::size_t kLeastShared = 32 * 1024;  // smaller ones would make small nets occupy a huge page

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Huge pages that are filled from the beginning and given back when nothing in them is used any more.
struct Chunk {
  std::uint8_t* begin;
  std::size_t size;
  std::size_t filled;
  std::size_t pieces;
};

Chunk make_chunk(std::size_t size) {
  void* memory = ::operator new(size, std::align_val_t{kHugePage});
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(memory, size, MADV_HUGEPAGE);  // a wish: without huge pages the memory is as good as any
#endif
  return {static_cast<std::uint8_t*>(memory), size, 0, 0};
}

class Chunks {
 public:
  // Never destroyed: a session may be released after the library's static objects.
  static Chunks& instance() {
    static Chunks& chunks = *new Chunks;
    return chunks;
  }

  void* allocate(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t size = round_up(bytes, kLine);
    auto chunk = std::find_if(chunks_.begin(), chunks_.end(),
                              [size](const Chunk& c) { return c.size - c.filled >= size; });
    if (chunk == chunks_.end()) {
      chunks_.reserve(chunks_.size() + 1);  // so that what is made next cannot be lost
      chunk = chunks_.insert(chunks_.end(), make_chunk(round_up(size, kHugePage)));
    }
    std::uint8_t* memory = chunk->begin + chunk->filled;
    chunk->filled += size;
    ++chunk->pieces;
    return memory;
  }

  void free(const void* memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    const auto chunk = std::find_if(chunks_.begin(), chunks_.end(), [address](const Chunk& c) {
      return address - reinterpret_cast<std::uintptr_t>(c.begin) < c.size;
    });
    if (--chunk->pieces > 0) return;
    ::operator delete(chunk->begin, std::align_val_t{kHugePage});
    chunks_.erase(chunk);
  }

  std::size_t bytes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::size_t sum = 0;
    for (const Chunk& chunk : chunks_) sum += chunk.size;
    return sum;
  }

 private:
  std::mutex mutex_;
  std::vector<Chunk> chunks_;
};

}  // namespace

void* allocate_weights(std::size_t bytes) {
  if (bytes < kLeastShared) return ::operator new(bytes, std::align_val_t{kLine});
  return Chunks::instance().allocate(bytes);
}

void free_weights(void* memory, std::size_t bytes) {
  if (bytes < kLeastShared) return ::operator delete(memory, std::align_val_t{kLine});
  Chunks::instance().free(memory);
}

std::size_t shared_weight_bytes() { return Chunks::instance().bytes(); }

}  // namespace ort_quant
