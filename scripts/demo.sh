#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real input: compress the Fashion-MNIST network, judge original and compressed on all 10,000 test images,
# time both, classify a few images and write the report. Everything lands in build/demo.
set -euo pipefail
cd "$(dirname "$0")/.."
unset OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS OMP_NUM_THREADS
images=$(dpkg -L dataset-fashion-mnist | grep 't10k-images-idx3-ubyte')
calibration=$(dpkg -L dataset-fashion-mnist | grep 'train-images-idx3-ubyte')
out=build/demo
qcnn=build/qcnn
model=models/fashion_mnist
mkdir -p $out

# The value of a number in a JSON object: the first one of that name.
number() { grep -o "\"$2\":[[:space:]]*[-0-9.e+]*" "$1" | head -n 1 | grep -o '[-0-9.e+]*$'; }

echo "1. compress $model.onnx 25 times (within 2 %), calibrated on images without labels, settings searched for"
$qcnn compress $model.onnx -o $out/fashion_mnist.qcnn --preprocess $model.preprocess.json --classes $model.classes.txt \
    --calib "$calibration" --ratio 25 --report $out/report.html

echo; echo "2. judge both on all 10,000 test images"
$qcnn eval $out/fashion_mnist.qcnn "$images" --against $model.onnx --json >$out/eval.json
$qcnn bench $model.onnx --repeat 200 --json >$out/bench_original.json
$qcnn bench $out/fashion_mnist.qcnn --repeat 200 --json >$out/bench_compressed.json
$qcnn inspect $out/fashion_mnist.qcnn --json >$out/inspect.json

echo; echo "3. classify a few of them (file names give the true class)"
scripts/fashion_pictures.py $out/pictures 0 1 2 18
$qcnn classify $out/fashion_mnist.qcnn --top 3 $out/pictures/*.png

printf '\n%-22s %10s %10s\n' "Fashion-MNIST" original compressed
printf '%-22s %9.2f%% %9.2f%%\n' "top-1, 10,000 images" "$(number $out/eval.json original_top1)" "$(number $out/eval.json top1)"
printf '%-22s %10d %10d\n' bytes "$(number $out/inspect.json original_bytes)" "$(number $out/inspect.json file_bytes)"
printf '%-22s %10s %9.1fx\n' smaller "" "$(number $out/inspect.json ratio)"
printf '%-22s %10.3f %10.3f\n' "ms an image, 1 thread" "$(number $out/bench_original.json median_ms)" "$(number $out/bench_compressed.json median_ms)"
printf '\nreport: %s\n' $out/report.html
