// The sum of two quantized tensors, written once over the registers of bytes_*.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layer_jobs.h"
#include "layer_output-inl.h"

namespace ort_quant {
namespace {

template <class V>
void add_quantized(const AddJob& job, const LayerOutput& output) {
  const auto end = ByteEnd<V>::of(output.bytes);
  const auto a_scale = V::splat(job.a_scale), b_scale = V::splat(job.b_scale);
  const auto a_zero = V::splat_int(-job.a_zero_point), b_zero = V::splat_int(-job.b_zero_point);
  const auto none = V::splat_byte(0);
  const bool whole = output.pieces.take == nullptr;  // only pieces need to know their position
  for (std::size_t i = job.begin; i < job.end;) {
    const std::size_t row_left = whole ? job.end - i : job.channels - i % job.channels;
    const std::size_t left = row_left < job.end - i ? row_left : job.end - i;
    const std::size_t count = left < V::kBytes ? left : V::kBytes;
    const auto a = Quad<V>::interleave(load_block<V>(job.a + i, count), none, none, none);
    const auto b = Quad<V>::interleave(load_block<V>(job.b + i, count), none, none, none);
    ResultBlock<V> result;
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) {
      const auto x = V::mul(V::to_floats(V::add_ints(V::as_ints(a.at[j]), a_zero)), a_scale);
      result.at[j] = V::add(x, V::mul(V::to_floats(V::add_ints(V::as_ints(b.at[j]), b_zero)), b_scale));
    }
    const std::size_t position = i / job.channels;
    result.store(output, end, position, job.channels, i - position * job.channels, count, 0);
    i += count;
  }
}

}  // namespace
}  // namespace ort_quant
