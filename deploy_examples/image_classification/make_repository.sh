#!/usr/bin/env bash
# Write a model repository that serves one classifier in four precisions, the fast int8 one behind an ensemble.
#
#   make_repository.sh OUT                                          the digits network that comes with the package
#   make_repository.sh OUT NAME MODEL DATA LABELS [IMAGE OPTIONS]    your own; DATA: a folder of images to calibrate with,
#                                                                   LABELS: a text file, one class a line,
#                                                                   IMAGE OPTIONS: --mean 127 --std 128 --crop 224 …
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -ne 1 ] && [ $# -lt 5 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
out=$1 models=$1/models repository=$1/repository

if [ $# -eq 1 ]; then
  name=digits labels=$out/labels.txt
  image=(--channels GRAY --resize 8,8 --std 240) scores=(--softmax)
  ort-quant demo --out "$models"
  seq 0 9 >"$labels"
  python3 "$here/make_images.py" "$out/images"
else
  name=$2 labels=$5
  image=("${@:6}") scores=()
  mkdir -p "$models"
  cp "$3" "$models/${name}_float.onnx"
  ort-quant quantize "$models/${name}_float.onnx" --data "$4" "${image[@]}" --out "$models/$name" \
    --target fake_quant --target ort --target qdq
fi

add() { # add NAME FILE [OPTIONS]
  ort-quant triton new "$models/$2" --repository "$repository" --name "$1" --threads 2 "${@:3}"
}
add "${name}_float" "${name}_float.onnx"
add "${name}_fake_quant" "${name}_fake_quant_model.onnx"
add "${name}_qdq" "${name}_qdq_model.onnx"
add "$name" "${name}_ort_model.onnx" --ensemble --labels "$labels" "${scores[@]}" "${image[@]}"
ort-quant triton validate "$repository"
