#!/usr/bin/env bash
# Write a model repository where one name has two versions: 1 is the float model, 2 the int8 one.
#
#   make_repository.sh OUT                        the digits network that comes with the package
#   make_repository.sh OUT NAME FLOAT.onnx INT8.onnx
set -euo pipefail
if [ $# -ne 1 ] && [ $# -ne 4 ]; then
  sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
name=${2:-digits} float=${3:-$1/models/digits_float.onnx} int8=${4:-$1/models/digits_ort_model.onnx}

[ $# -eq 4 ] || ort-quant demo --out "$1/models"
ort-quant triton new "$float" --repository "$1/repository" --name "$name" --version 1 --threads 2
ort-quant triton new "$int8" --repository "$1/repository" --name "$name" --version 2 --threads 2
ort-quant triton validate "$1/repository"
