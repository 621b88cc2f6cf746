// The kernels of qkernels.h, written once over the vectors of an instruction set (qsimd_*.h), compiled once for each.
//
// An instruction set is a class with the types Floats (16 lanes), Sums (16 int32), Activation (four bytes, in all lanes)
// and Weights (four bytes a lane) and the functions used below. Everything is in an anonymous namespace and nothing of
// the standard library is instantiated, for the reason given in kernels-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "qkernels.h"

namespace ort_quant {
namespace {

// The sums of a tile. GCC keeps such an array in registers only where every loop over it is unrolled.
template <class Isa, std::size_t Width, std::size_t Rows>
class Tile {
 public:
  static constexpr std::size_t kColumns = Width * kLanes;

  static void run(const TileWork& work) {
    const std::uint8_t* const* rows = work.rows;
    const std::uint8_t* first_row = work.first_row;
    const std::size_t* pixels = work.place.pixels;
    for (std::size_t i = 0; i < work.tiles; ++i) {
      // Read what the tile needs where it needs it: kept over the loop, it would take the registers and be spilled.
      __asm__ volatile("" ::: "memory");
      if (work.end == TileEnd::kResults && work.results.residual != nullptr) fetch_residual(work, pixels);
      Tile tile;
      tile.load(work);
      const std::int8_t* next = work.next == nullptr ? work.weights : work.next + i * work.next_share;
      tile.accumulate(work, rows, first_row, next);
      tile.store(work, pixels);
      if (rows != nullptr) rows += work.taps * Rows;
      first_row += work.row_bytes * Rows;
      pixels += Rows;
    }
  }

 private:
  static constexpr std::size_t kMostRowsAhead = 8;  // more leave no register for the address
  static constexpr int kSecondLevel = 2;            // of caches

  using Floats = typename Isa::Floats;
  using Sums = typename Isa::Sums;

  __attribute__((always_inline)) void load(const TileWork& work) {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Width; ++v) {
      sums_[0][v] = Isa::load_sums(work.start + v * kLanes);
#pragma GCC unroll 12
      for (std::size_t r = 1; r < Rows; ++r) sums_[r][v] = sums_[0][v];
    }
    if (work.start_stride == 0) return;
#pragma GCC unroll 12
    for (std::size_t r = 1; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) {
        sums_[r][v] = Isa::load_sums(work.start + r * work.start_stride + v * kLanes);
      }
    }
  }

  static void fetch_residual(const TileWork& work, const std::size_t* pixels) {
    const float* residual = work.results.residual + work.place.first_channel;
#pragma GCC unroll 12
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) {
        __builtin_prefetch(residual + pixels[r] * work.results.channels + v * kLanes, 1);
      }
    }
  }

  __attribute__((always_inline)) void store(const TileWork& work, const std::size_t* pixels) const {
    switch (work.end) {
      case TileEnd::kSums: return store_sums(work);
      case TileEnd::kFloats: return store_floats(work);
      case TileEnd::kCodes: return store_codes(work, pixels);
      case TileEnd::kResults: return store_results(work, pixels);
    }
  }

  __attribute__((always_inline)) void accumulate(const TileWork& work, const std::uint8_t* const* rows,
                                                 const std::uint8_t* first_row, const std::int8_t* next) {
    const std::ptrdiff_t depth = static_cast<std::ptrdiff_t>(work.depth);
    for (std::size_t tap = 0; tap < work.taps; ++tap) {
      // Counting up to zero needs no register for the end: twelve rows leave none.
      const std::uint8_t* row[Rows];
      const std::size_t end = work.channel_offset + work.depth;
      if (rows == nullptr) {
#pragma GCC unroll 12
        for (std::size_t r = 0; r < Rows; ++r) row[r] = first_row + r * work.row_bytes + end;
      } else {
#pragma GCC unroll 12
        for (std::size_t r = 0; r < Rows; ++r) row[r] = rows[tap * Rows + r] + end;
      }
      const std::int8_t* weights = work.weights + work.tap_weights[tap] * (Width * kVectorBytes);
      for (std::ptrdiff_t k = -depth; k != 0; k += kDepthStep) {
        if constexpr (Rows <= kMostRowsAhead) {
          __builtin_prefetch(next, 0, kSecondLevel);
          next += work.next_step;
        }
        add_products(row, k, weights);
        weights += Width * kVectorBytes;
      }
      if (work.tail != 0) add_products(row, static_cast<std::ptrdiff_t>(work.tail) - depth, weights);
    }
  }

  __attribute__((always_inline)) void add_products(const std::uint8_t* const (&row)[Rows], std::ptrdiff_t k,
                                                   const std::int8_t* weights) {
    typename Isa::Weights w[Width];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Width; ++v) w[v] = Isa::load_weights(weights + v * kVectorBytes);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < Rows; ++r) {
      const typename Isa::Activation a = Isa::broadcast(row[r] + k);
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) sums_[r][v] = Isa::dot(sums_[r][v], a, w[v]);
    }
  }

  __attribute__((always_inline)) void store_sums(const TileWork& work) const {
#pragma GCC unroll 12
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) Isa::store_sums(sums_[r][v], work.sums + r * kColumns + v * kLanes);
    }
  }

  __attribute__((always_inline)) void store_floats(const TileWork& work) const {
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Width; ++v) {
      const Floats deq = Floats::load(work.deq + v * kLanes);
#pragma GCC unroll 12
      for (std::size_t r = 0; r < Rows; ++r) {
        (Isa::to_floats(sums_[r][v]) * deq).store(work.floats + r * kColumns + v * kLanes);
      }
    }
  }

  __attribute__((always_inline)) void store_codes(const TileWork& work, const std::size_t* pixels) const {
    if (work.codes.saturates) return store_codes(work, pixels, [](Floats a) { return a; });
    const Floats low = Floats::broadcast(work.codes.low);
    const Floats high = Floats::broadcast(work.codes.high);
    store_codes(work, pixels, [=](Floats a) { return min(high, max(low, a)); });
  }

  template <class F>
  __attribute__((always_inline)) void store_codes(const TileWork& work, const std::size_t* pixels, F clip) const {
    const CodesEnd end = work.codes;  // copies: for all the compiler knows, storing bytes could change the originals
    const TilePlace place = work.place;
    const Floats scale = Floats::broadcast(end.scale);
    const Sums shift = Isa::broadcast_sum(end.shift);
    Floats deq[Width];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Width; ++v) deq[v] = Floats::load(work.deq + v * kLanes);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < Rows; ++r) {
      Sums codes[Width];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) {
        codes[v] = Isa::round(clip(Isa::to_floats(sums_[r][v]) * deq[v] * scale));
      }
      std::uint8_t* y = end.y + pixels[r] * end.channels + place.first_channel;
      Isa::template store_codes<Width>(codes, shift, y, place.channels);
    }
  }

  __attribute__((always_inline)) void store_results(const TileWork& work, const std::size_t* pixels) const {
    const ResultsEnd end = work.results;
    if (!end.bounded_below_only) {
      return store_results(work, pixels, [=](Floats a) { return clip(a, end, 0); },
                           [=](Floats a) { return clip(a, end, 1); });
    }
    const Floats low = Floats::broadcast(end.low[1]);
    store_results(work, pixels, [](Floats a) { return a; }, [=](Floats a) { return max(low, a); });
  }

  // All residuals are read before anything is written: a load that follows a store to the same place of another page
  // waits for it, and pixels are often whole pages apart.
  template <class Before, class After>
  __attribute__((always_inline)) void store_results(const TileWork& work, const std::size_t* pixels, Before before,
                                                    After after) const {
    const ResultsEnd end = work.results;
    const TilePlace place = work.place;
    const std::size_t last = place.channels - (Width - 1) * kLanes;  // channels of the last vector
    Floats results[Rows][Width];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Width; ++v) {
      const Floats deq = Floats::load(work.deq + v * kLanes);
#pragma GCC unroll 12
      for (std::size_t r = 0; r < Rows; ++r) results[r][v] = before(Isa::to_floats(sums_[r][v]) * deq);
    }
    if (end.residual != nullptr) {
#pragma GCC unroll 12
      for (std::size_t r = 0; r < Rows; ++r) {
        const float* residual = end.residual + pixels[r] * end.channels + place.first_channel;
#pragma GCC unroll 4
        for (std::size_t v = 0; v < Width; ++v) {
          const std::size_t count = v + 1 == Width ? last : kLanes;
          results[r][v] = results[r][v] + Isa::load_first(residual + v * kLanes, count);
        }
      }
    }
#pragma GCC unroll 12
    for (std::size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) results[r][v] = after(results[r][v]);
    }
    if (end.y_float != nullptr) {
#pragma GCC unroll 12
      for (std::size_t r = 0; r < Rows; ++r) {
        float* y = end.y_float + pixels[r] * end.channels + place.first_channel;
#pragma GCC unroll 4
        for (std::size_t v = 0; v < Width; ++v) {
          Isa::store_first(results[r][v], y + v * kLanes, v + 1 == Width ? last : kLanes);
        }
      }
    }
    if (end.y != nullptr) store_result_codes(results, end, place, pixels);
  }

  // The offset is added after the bounds, which are integers, and after rounding: the same, without a second rounding.
  __attribute__((always_inline)) static void store_result_codes(const Floats (&results)[Rows][Width],
                                                                const ResultsEnd& end, const TilePlace& place,
                                                                const std::size_t* pixels) {
    const auto offset = static_cast<float>(end.quantizer.offset);
    const Floats scale = Floats::broadcast(end.quantizer.scale);
    const Floats lowest = Floats::broadcast(-128.0f - offset);
    const Floats highest = Floats::broadcast(127.0f - offset);
    const Floats code_zero = Floats::broadcast(-offset);
    const Sums shift = Isa::broadcast_sum(end.quantizer.offset + 128);
#pragma GCC unroll 12
    for (std::size_t r = 0; r < Rows; ++r) {
      Sums codes[Width];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Width; ++v) {
        codes[v] = Isa::round(Isa::where_nan(min(highest, max(lowest, results[r][v] * scale)), code_zero));
      }
      std::uint8_t* y = end.y + pixels[r] * end.channels + place.first_channel;
      Isa::template store_codes<Width>(codes, shift, y, place.channels);
    }
  }

  static Floats clip(Floats a, const ResultsEnd& end, std::size_t which) {
    return min(Floats::broadcast(end.high[which]), max(Floats::broadcast(end.low[which]), a));
  }

  Sums sums_[Rows][Width];
};

// Fills in the tiles from `Rows` rows on.
template <class Isa, std::size_t Width, std::size_t Rows = 1>
constexpr void list_tiles(TileKernel (&tiles)[kMaxTileRows]) {
  if constexpr (Rows <= Isa::kMostRows[Width - 1]) {
    tiles[Rows - 1] = Tile<Isa, Width, Rows>::run;
    list_tiles<Isa, Width, Rows + 1>(tiles);
  }
}

}  // namespace
}  // namespace ort_quant
