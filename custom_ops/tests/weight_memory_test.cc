// The memory of packed weights: aligned, apart from each other, given back, and safe for several threads.

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "weight_memory.h"

namespace {

using ort_quant::allocate_weights;
using ort_quant::free_weights;
using ort_quant::shared_weight_bytes;

struct Piece {
  std::uint8_t* memory;
  std::size_t bytes;
  std::uint8_t mark;
};

bool intact(const Piece& piece) {
  for (std::size_t i = 0; i < piece.bytes; ++i) {
    if (piece.memory[i] != piece.mark) return false;
  }
  return true;
}

// Sizes below and above what is shared, around the huge page, and beyond it.
constexpr std::size_t kHugePage = 2 << 20;
constexpr std::size_t kSizes[] = {1,      63,     64,             4096,      32767,         32768,
                                  32769, 100000, kHugePage - 64, kHugePage, kHugePage + 1, 5 << 20};

void pieces_keep_apart() {
  std::vector<Piece> pieces;
  std::uint8_t mark = 0;
  for (int round = 0; round < 4; ++round) {
    for (const std::size_t bytes : kSizes) {
      auto* memory = static_cast<std::uint8_t*>(allocate_weights(bytes));
      CHECK(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0, bytes);
      std::memset(memory, ++mark, bytes);
      pieces.push_back({memory, bytes, mark});
    }
    for (std::size_t i = 0; i < pieces.size(); i += 2) {  // half of them go, the others stay as they are
      free_weights(pieces[i].memory, pieces[i].bytes);
      pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(i));
    }
    for (const Piece& piece : pieces) CHECK(intact(piece), piece.bytes);
  }
  for (const Piece& piece : pieces) free_weights(piece.memory, piece.bytes);
}

void memory_comes_back() {
  CHECK(shared_weight_bytes() == 0, shared_weight_bytes());
  void* const small = allocate_weights(1000);
  CHECK(shared_weight_bytes() == 0, shared_weight_bytes());
  void* const kept = allocate_weights(40000);
  for (int i = 0; i < 100; ++i) {  // as when one model stays and another is loaded again and again
    void* const first = allocate_weights(1 << 20);
    void* const second = allocate_weights(3 << 20);
    free_weights(first, 1 << 20);
    free_weights(second, 3 << 20);
  }
  CHECK(shared_weight_bytes() <= 2 * kHugePage, shared_weight_bytes());
  free_weights(kept, 40000);
  free_weights(small, 1000);
  CHECK(shared_weight_bytes() == 0, shared_weight_bytes());
}

void threads_share_it() {
  std::vector<std::thread> threads;
  std::vector<int> damaged(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &damaged] {
      for (int i = 0; i < 200; ++i) {
        const Piece piece{static_cast<std::uint8_t*>(allocate_weights(50000)), 50000, static_cast<std::uint8_t>(t)};
        std::memset(piece.memory, t, piece.bytes);
        damaged[static_cast<std::size_t>(t)] += intact(piece) ? 0 : 1;
        free_weights(piece.memory, piece.bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : damaged) CHECK(count == 0);
}

}  // namespace

int main() {
  pieces_keep_apart();
  memory_comes_back();
  threads_share_it();
  return check::finish("weight_memory_test");
}
