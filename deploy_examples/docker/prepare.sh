#!/usr/bin/env bash
# Fill a folder with what the image is built from: the operator libraries, the probe, a model repository.
#
#   prepare.sh CONTEXT                                  the digits network that comes with the package
#   prepare.sh CONTEXT NAME MODEL.onnx [OPTIONS]        your own; OPTIONS of `ort-quant triton new`
#
# TRITON_RELEASE (default 24.10) is what the repository is checked against.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -ne 1 ] && [ $# -lt 3 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
context=$1 name=${2:-digits} model=${3:-}

mkdir -p "$context/lib"
cp "$(ort-quant ops path)" "$(ort-quant ops path --deploy)" "$context/lib/"
cp "$here/../kubernetes/chart/files/probe.py" "$context/"
cp "$here/Dockerfile" "$context/"
if [ -z "$model" ]; then
  ort-quant demo --out "$context/../models"
  model=$context/../models/digits_ort_model.onnx
fi
# The path the library will have in the image, not the one it has here.
ort-quant triton new "$model" --repository "$context/repository" --name "$name" --threads 2 \
  --ops-path /opt/ort_quant/lib "${@:4}"
ort-quant triton validate "$context/repository" --release "${TRITON_RELEASE:-24.10}"
