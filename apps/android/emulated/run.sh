#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Android's own arm64 library on an emulated processor (qemu-aarch64), without Java: photographs must get the classes that this
# machine's C tier gives them. With `count`, instructions of one photograph as well.
#   apps/android/emulated/run.sh [count [MODEL.qcnn...]]
# 77: a tool or a photograph is missing.
set -euo pipefail
cd "$(dirname "$0")/../../.."
out=$PWD/build/android/emulated
library=$PWD/build/android/native/arm64-v8a/libqcnn_java.so
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null || { echo "SKIPPED: $tool is not installed (scripts/install_packages.sh android)" >&2; exit 77; }
done
[ -f "$library" ] || { echo "SKIPPED: $library was not built" >&2; exit 77; }
mkdir -p "$out/lib"

aarch64-linux-gnu-gcc -O2 -Wall -Wextra -Werror -I/usr/include/android/nativehelper apps/android/emulated/driver.c -o "$out/driver" -ldl -lm
# Android's names of the libraries.
ln -sf /usr/aarch64-linux-gnu/lib/libc.so.6 "$out/lib/libc.so"
ln -sf /usr/aarch64-linux-gnu/lib/libm.so.6 "$out/lib/libm.so"
emulate() { # CPU [QEMU OPTION...] -- MODEL [RUNS]
    local cpu=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    QEMU_LD_PREFIX=/usr/aarch64-linux-gnu nice -n 10 qemu-aarch64 -cpu "$cpu" "${options[@]}" \
        -E LD_LIBRARY_PATH="$out/lib:/usr/aarch64-linux-gnu/lib" "$out/driver" "$library" "$@"
}

model=$(find build/android/assets/models -name '*.qcnn' | sort | head -n 1)
data=../shared/data/alexnet200/val
if [ -d $data ] && [[ $model == *alexnet200* ]]; then
    mapfile -t photos < <(find $data -name '*.jpg' | sort | awk 'NR % 250 == 1')
elif [ -f build/android/sample.jpg ]; then
    photos=(build/android/sample.jpg)
else
    echo "SKIPPED: no photograph to classify" >&2
    exit 77
fi

if [ "${1-}" != count ]; then
    build/qcnn classify "$model" "${photos[@]}" --kernels c --json >"$out/expected.json"
    for cpu in cortex-a53 max; do
        build/decode_photos "${photos[@]}" | emulate $cpu -- "$model" >"$out/found.$cpu" 2>"$out/kernels.$cpu"
        echo "$cpu, $(cat "$out/kernels.$cpu")"
        python3 apps/android/emulated/compare.py "$out/expected.json" "$out/found.$cpu"
    done
    exit 0
fi

gcc -O2 -Wall -Wextra -Werror -shared -fPIC apps/android/emulated/count_instructions.c -o "$out/count.so"
instructions() { # CPU MODEL RUNS
    build/decode_photos "${photos[0]}" | emulate "$1" -plugin "$out/count.so" -- "$2" "$3" 2>&1 >/dev/null | sed -n 's/instructions: //p'
}
shift
models=("$@")
[ $# -gt 0 ] || models=("$model")
for model in "${models[@]}"; do
    for cpu in cortex-a53 max; do
        once=$(instructions $cpu "$model" 1)
        three=$(instructions $cpu "$model" 3)
        echo "$(basename "$model") on $cpu: $(((three - once) / 2)) instructions a photo, $((once - (three - once) / 2)) to load and prepare"
    done
done
