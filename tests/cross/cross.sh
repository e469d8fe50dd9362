#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The engine on a processor that this machine is not: builds it, the kernel tester and engine_run for the target, runs both
# in an emulator, and compares the scores of a compressed network with those of this machine's C tier.
#   tests/cross/cross.sh TARGET BUILD_FOLDER      TARGET: aarch64, armv7, wasm, x86 (older ones),
# two_files (this machine, the engine as qcnn.c and qcnn.h), coverage (docs/kernels.md, after the others)
# Exit status 77 and a word on standard error when a tool is missing. The packages are those of
# scripts/install_packages.sh test.
set -euo pipefail
target=$1
build=$(realpath "$2")
cd "$(dirname "$0")/../.."
out=$build/cross/$target
mkdir -p "$out"

need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "SKIPPED: $target needs $tool" >&2; exit 77; }
    done
}

# ---- a compressed network, and what this machine makes of it -----------------------------------------------------------
# Every target asks for it, perhaps at the same time. Once as it is, once with ranges (of noise: what the scores mean does not matter),
# which keep its activations in bytes.
model=$build/cross/fashion_mnist.qcnn
ranged=$build/cross/fashion_mnist_ranged.qcnn
(
    flock 9
    [ "$ranged" -nt "$build/qcnn" ] || {
        "$build/qcnn" compress models/fashion_mnist.onnx -o "$model" --threads 1 --json \
            --preprocess models/fashion_mnist.preprocess.json --set "$(cat models/fashion_mnist.settings)" >/dev/null
        python3 tests/cross/noise.py "$build/cross"
        "$build/qcnn" calibrate "$model" --calib "$build/cross/noise-images-idx3-ubyte" -o "$ranged" --threads 1 --json >/dev/null
    }
) 9>"$build/cross/lock"
"$build/engine_run" "$model" >"$out/expected"
"$build/engine_run" "$ranged" >"$out/expected_ranged"

# scores RUNNER... : runs engine_run in the emulator. The C tier must give this machine's bits, every other tier scores
# close to them.
scores() {
    "$@" "$model" >"$out/scores"
    python3 tests/cross/compare.py "$out/expected" "$out/scores"
    "$@" "$ranged" >"$out/scores_ranged"
    python3 tests/cross/compare.py "$out/expected_ranged" "$out/scores_ranged"
}

flags=(-std=gnu11 -O2 -Wall -Wextra -Werror -ffp-contract=off -Iinclude -Isrc -Itests/kernels)
engine=(src/base/*.c src/model/*.c src/engine/*.c)

# compile 'suffixes of kernel files' COMPILER FLAG... : builds $out/kernels_test and $out/engine_run
compile() {
    local suffixes=$1 kernels object objects=()
    shift
    kernels=$(find src/kernels -name '*.c' | grep -E "/(cpu|dispatch|prices)\.c|_($suffixes)\.c")
    # shellcheck disable=SC2086
    for source in "${engine[@]}" $kernels; do
        object=$out/$(basename "$source" .c).o
        objects+=("$object")
        [ -n "$(find "$object" -newer "$source" 2>/dev/null)" ] && [ -z "$(find include src/*/*.h -newer "$object")" ] && continue
        case $source in
        *_neondot.c) "$@" "${flags[@]}" -march=armv8.2-a+dotprod -c "$source" -o "$object" ;;
        *) "$@" "${flags[@]}" -c "$source" -o "$object" ;;
        esac
    done
    "$@" "${flags[@]}" "${objects[@]}" tests/kernels/*.c -o "$out/kernels_test$suffix" "${libraries[@]}"
    "$@" "${flags[@]}" "${objects[@]}" tests/cross/engine_run.c -o "$out/engine_run$suffix" "${libraries[@]}"
}

# two_files RUNNER -- COMPILER FLAG... : the engine as qcnn.c for this target gives the same scores, to the bit.
two_files() {
    local runner=()
    while [ "$1" != -- ]; do runner+=("$1"); shift; done
    shift
    scripts/amalgamate.py "$out"
    "$@" -std=c11 -O1 -Wall -Wextra -Werror -I"$out" "$out/qcnn.c" tests/cross/engine_run.c -o "$out/one$suffix" "${libraries[@]}"
    "${runner[@]}" "$out/one$suffix" "$model" | cmp - "$out/scores"
    echo "  qcnn.c: the same scores"
}
suffix=
libraries=(-lm)

case $target in
aarch64)
    need aarch64-linux-gnu-gcc qemu-aarch64-static
    compile 'c|neon|neondot' aarch64-linux-gnu-gcc -static
    # the plainest phone processor, and one with every extension the emulator knows
    for cpu in cortex-a53 max; do
        echo "aarch64, $cpu"
        qemu-aarch64-static -cpu $cpu "$out/kernels_test"
        scores qemu-aarch64-static -cpu $cpu "$out/engine_run"
    done
    two_files qemu-aarch64-static -cpu max -- aarch64-linux-gnu-gcc -static
    qemu-aarch64-static -cpu max "$out/kernels_test" --list >"$out/list"
    ;;
armv7)
    need arm-linux-gnueabihf-gcc qemu-arm-static
    compile 'c' arm-linux-gnueabihf-gcc -static -march=armv7-a -mfpu=neon
    qemu-arm-static "$out/kernels_test"
    scores qemu-arm-static "$out/engine_run"
    two_files qemu-arm-static -- arm-linux-gnueabihf-gcc -static
    qemu-arm-static "$out/kernels_test" --list >"$out/list"
    ;;
wasm)
    need clang wasm-ld node
    [ -e /usr/include/wasm32-wasi/stdio.h ] || { echo "SKIPPED: wasm needs wasi-libc" >&2; exit 77; }
    suffix=.wasm
    mapfile -t engine < <(printf '%s\n' "${engine[@]}" | grep -v container_file) # no mmap there
    compile 'c|wasm' clang --target=wasm32-wasi -msimd128
    run=(node --no-warnings --experimental-wasi-unstable-preview1 tests/cross/wasi.mjs)
    "${run[@]}" "$out/kernels_test.wasm"
    scores "${run[@]}" "$out/engine_run.wasm"
    two_files "${run[@]}" -- clang --target=wasm32-wasi -msimd128 -DQCNN_NO_FILES
    "${run[@]}" "$out/kernels_test.wasm" --list >"$out/list"
    ;;
x86)
    # This machine's own programs on older processors: an instruction of a newer one in common code faults. No guard pages:
    # the emulator touches the lanes that a masked load leaves out.
    need qemu-x86_64-static
    for cpu in Nehalem Haswell Skylake-Server max; do
        echo "x86-64, $cpu"
        qemu-x86_64-static -cpu $cpu "$build/kernels_test" --no-guards 2> >(grep -v "TCG doesn't support" >&2)
        scores qemu-x86_64-static -cpu $cpu "$build/engine_run" 2> >(grep -v "TCG doesn't support" >&2)
    done
    ;;
two_files)
    tests/two_files.sh "$build" "$model"
    ;;
coverage)
    # What the other targets' testers listed, where they ran.
    "$build/kernels_test" --list >"$out/list"
    scripts/kernel_coverage.py $(ls "$build"/cross/{coverage,aarch64,wasm}/list 2>/dev/null)
    ;;
*)
    echo "cross.sh: no target $target" >&2
    exit 2
    ;;
esac
