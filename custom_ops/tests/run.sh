#!/usr/bin/env bash
# Build the op library and its C++ tests with warnings as errors and under the address and undefined-behaviour
# sanitizers, and run the tests for every instruction set of this machine.
# Usage: custom_ops/tests/run.sh [build folder]
set -euo pipefail
source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build_dir="${1:-$(mktemp -d)}"

cmake -S "$source_dir" -B "$build_dir" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DORT_QUANT_TESTS=ON -DORT_QUANT_WERROR=ON -DORT_QUANT_SANITIZE=address,undefined
cmake --build "$build_dir" --parallel "${JOBS:-2}"

isas=(scalar)
flags="$(grep -m1 '^flags' /proc/cpuinfo || true)"
[[ " $flags " == *" avx2 "* && " $flags " == *" f16c "* ]] && isas+=(avx2)
if [[ " ${isas[*]} " == *" avx2 "* ]]; then
  [[ " $flags " == *" avx_vnni "* ]] && isas+=(avxvnni)
  if [[ " $flags " == *" avx512f "* && " $flags " == *" avx512bw "* && " $flags " == *" avx512vl "* ]]; then
    isas+=(avx512)
    [[ " $flags " == *" avx512_vnni "* ]] && isas+=(avx512vnni_256 avx512vnni)
  fi
fi
# The kernel tests run every table of this machine by themselves; the variable matters to the library alone.
ctest --test-dir "$build_dir" --output-on-failure --parallel "${JOBS:-2}"
for isa in "${isas[@]}"; do
  echo "ORT_QUANT_ISA=$isa"
  ORT_QUANT_ISA="$isa" ctest --test-dir "$build_dir" --output-on-failure --tests-regex register_test
done
