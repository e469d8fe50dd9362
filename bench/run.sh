#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Speed beside other engines, in turn on the same machine (compare.py), then docs/speed.md and docs/speed.svg (report.py).
#   bench/run.sh [quick|full] [--networks alexnet,vgg16,resnet18,squeezenet] [--no-accuracy]
# Leaves out what is absent and says so. The peers live in build/bench-venv, everything made in build/bench.
set -euo pipefail
cd "$(dirname "$0")/.."
unset "${!OPENBLAS_@}" "${!OMP_@}" "${!MKL_@}" "${!KMP_@}" PYTHONPATH
mode=quick
case ${1-} in quick|full) mode=$1; shift ;; esac

if [ ! -e build/bench-venv/.complete ]; then
    echo "installing the peers into build/bench-venv" >&2
    /usr/bin/python3 -m venv build/bench-venv
    build/bench-venv/bin/pip install -q --disable-pip-version-check \
        onnxruntime==1.32.* onnx==1.23.* openvino==2026.4.* ncnn==1.0.20261020 numpy pillow
    touch build/bench-venv/.complete
fi
mkdir -p build/bench
cc -O2 -o build/bench/peaks bench/peaks.c
options=()
[ "$mode" = full ] || options+=(--quick)
build/bench-venv/bin/python bench/compare.py "${options[@]}" "$@"
build/bench-venv/bin/python bench/report.py
