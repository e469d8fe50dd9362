#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds libqcnn_java.so for Android's three ABIs into build/android/native/ABI, with Debian's clang and lld.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/android/native
for abi in arm64-v8a armeabi-v7a x86_64; do
    folder=build/android/native/$abi
    cmake -S bindings/java -B "$folder" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/apps/android/bionic/toolchain.cmake" -DANDROID_ABI=$abi \
        -DCMAKE_BUILD_TYPE=Release >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
    ninja -C "$folder" >"$folder.log" || { cat "$folder.log" >&2; exit 1; }
done
