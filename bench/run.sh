#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Speed beside ONNX Runtime, in turn on the same machine: see compare.py. Needs build/venv (scripts/install_packages.sh test).
set -euo pipefail
cd "$(dirname "$0")/.."
unset OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS OMP_NUM_THREADS
[ -e build/venv/.complete ] || { echo "bench: build/venv with ONNX Runtime is absent: scripts/install_packages.sh test" >&2; exit 1; }
exec build/venv/bin/python bench/compare.py "$@"
