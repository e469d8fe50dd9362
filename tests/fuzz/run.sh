#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes each parser for the given seconds, two at a time, from a corpus that seeds.py makes; first replays every file kept
# in tests/fuzz/regressions. A finding is written there, fails the run, and stays as a regression file once mended.
#   tests/fuzz/run.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(onnx container caffe image labels npy)
cmake -S . -B build-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DQCNN_FUZZ=ON >/dev/null
ninja -C build-fuzz fuzz_onnx fuzz_caffe fuzz_container fuzz_image fuzz_labels fuzz_npy >build-fuzz/ninja.log || { cat build-fuzz/ninja.log; exit 1; }
/usr/bin/python3 tests/fuzz/seeds.py build/qcnn build-fuzz/corpus

fuzz_one() {
    local target=$1 regressions=tests/fuzz/regressions/$1 log=build-fuzz/$1.log
    mkdir -p "$regressions" "build-fuzz/corpus/$target"
    find "$regressions" -type f -print0 | xargs -0 -r "build-fuzz/fuzz_$target" -rss_limit_mb=2048 >"$log" 2>&1 &&
        "build-fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -malloc_limit_mb=512 -print_final_stats=1 \
            -artifact_prefix="$regressions/" "build-fuzz/corpus/$target" >>"$log" 2>&1 || { tail -n 60 "$log"; return 1; }
    echo "fuzz_$target: $(grep -o 'number_of_executed_units: *[0-9]*' "$log" | grep -o '[0-9]*') executions without a finding"
}

failed=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
    pids=()
    for target in "${targets[@]:i:2}"; do
        fuzz_one "$target" & pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
done
exit $failed
