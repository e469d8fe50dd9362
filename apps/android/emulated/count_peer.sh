#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Instructions that ONNX Runtime's arm64 library (Maven Central, 90 MB) takes for one image, counted as run.sh counts ours.
#   apps/android/emulated/count_peer.sh MODEL.onnx...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../../build/android/emulated
version=1.20.0
jar=$HOME/.m2/repository/com/microsoft/onnxruntime/onnxruntime/$version/onnxruntime-$version.jar
mkdir -p "$out"
[ -f "$jar" ] || mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get -Dtransitive=false \
    -Dartifact=com.microsoft.onnxruntime:onnxruntime:$version
unzip -q -o -j "$jar" ai/onnxruntime/native/linux-aarch64/libonnxruntime.so -d "$out"
gcc -O2 -shared -fPIC "$here/count_instructions.c" -o "$out/count.so"
aarch64-linux-gnu-gcc -O2 -Wall -Wextra "$here/peer.c" -o "$out/peer" -ldl

instructions() { # CPU MODEL RUNS
    QEMU_LD_PREFIX=/usr/aarch64-linux-gnu nice -n 10 qemu-aarch64 -cpu "$1" -plugin "$out/count.so" \
        -E LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib "$out/peer" "$out/libonnxruntime.so" "$2" "$3" 2>&1 | sed -n 's/instructions: //p'
}
for model in "$@"; do
    for cpu in cortex-a53 max; do
        echo "$(basename "$model"), ONNX Runtime $version on $cpu: $((($(instructions $cpu "$model" 3) - $(instructions $cpu "$model" 1)) / 2)) instructions an image"
    done
done
