#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the named sets need (build, test, android, lint), where they are missing.
#   scripts/install_packages.sh build [test] [android] [lint]
set -euo pipefail
cd "$(dirname "$0")/.."

build_packages=(cmake ninja-build gcc libc6-dev python3 pkg-config libcjson-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev
    libopenblas-pthread-dev libcmocka-dev dataset-fashion-mnist)
test_packages=(clang libclang-rt-14-dev llvm libonnx-testdata python3 python3-venv python3-numpy python3-onnx
    python3-torch python3-pil binutils
    qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
    wasi-libc libclang-rt-14-dev-wasm32 lld nodejs)
# The Java class and the Android app: a JDK, a cross compiler and what packs, checks and emulates.
android_packages=(openjdk-17-jdk-headless maven clang lld llvm aapt android-libnativehelper-dev apksigner zipalign dexdump
    qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)

wanted=()
for set in "$@"; do
    case $set in
    build) wanted+=("${build_packages[@]}") ;;
    test) wanted+=("${test_packages[@]}") ;;
    android) wanted+=("${android_packages[@]}") ;;
    lint) wanted+=(clang clang-format clang-tidy) ;;
    *) echo "usage: $0 [build] [test] [android] [lint]" >&2; exit 2 ;;
    esac
done

missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing Debian packages: ${missing[*]}" >&2
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# ONNX Runtime and a current onnx, for the tests that compare with them; without PyPI those tests skip and say so.
case " $* " in
*" test "*)
    if [ ! -e build/venv/.complete ]; then
        mkdir -p build
        echo "installing ONNX Runtime into build/venv" >&2
        if /usr/bin/python3 -m venv build/venv && build/venv/bin/pip install -q --disable-pip-version-check onnxruntime onnx numpy; then
            touch build/venv/.complete
        else
            echo "WARNING: no ONNX Runtime: comparisons with it will be skipped" >&2
        fi
    fi ;;
esac
