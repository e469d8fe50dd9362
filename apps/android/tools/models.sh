#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gathers the models that go into the package: models/alexnet200.qcnn if it is there, or else the project's small Fashion-MNIST
# network; and SqueezeNet where ../shared/data is at hand. What is compressed here is kept for the next build.
#   models.sh FOLDER
set -euo pipefail
out=$1
made=build/android/models
data=../shared/data/squeezenet1000
mkdir -p "$made" "$out"
rm -f "$out"/*.qcnn

if [ -f models/alexnet200.qcnn ]; then
    cp models/alexnet200.qcnn "$out/"
else
    if [ ! -f $made/fashion_mnist.qcnn ]; then
        build/qcnn compress models/fashion_mnist.onnx -o $made/fashion_mnist.qcnn --preprocess models/fashion_mnist.preprocess.json \
            --classes models/fashion_mnist.classes.txt --set "$(cat models/fashion_mnist.settings)" >/dev/null 2>&1
    fi
    cp $made/fashion_mnist.qcnn "$out/"
fi
if [ -f $data/squeezenet.onnx ]; then
    if [ ! -f $made/squeezenet1000.qcnn ]; then
        build/qcnn compress $data/squeezenet.onnx -o $made/squeezenet1000.qcnn --preprocess $data/preprocess.json \
            --classes $data/classes.txt --set "$(cat apps/android/squeezenet.settings)" >/dev/null 2>&1
    fi
    cp $made/squeezenet1000.qcnn "$out/"
fi
