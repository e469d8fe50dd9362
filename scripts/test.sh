#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, in the order in which a failure tells most: the tests of the release build, the unit tests under sanitizers,
# those with threads under ThreadSanitizer, short fuzzing. `scripts/test.sh long` takes the full numbers, and hours.
set -euo pipefail
cd "$(dirname "$0")/.."
unset OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS OMP_NUM_THREADS
fuzz_seconds=6
if [ "${1-}" = long ]; then
    export QCNN_TEST_LONG=1
    fuzz_seconds=1800
fi
jobs=$(nproc)

echo "== release build =="
ctest --test-dir build --output-on-failure -j "$jobs"

echo "== unit tests under AddressSanitizer and UndefinedBehaviorSanitizer =="
cmake -S . -B build-sanitize -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DQCNN_SANITIZE=ON >/dev/null
ninja -C build-sanitize >build-sanitize/ninja.log || { cat build-sanitize/ninja.log; exit 1; }
ctest --test-dir build-sanitize --output-on-failure -j "$jobs" -R '^(unit/|cli|kernels)'

echo "== tests with threads under ThreadSanitizer =="
cmake -S . -B build-threads -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DQCNN_THREAD_SANITIZE=ON >/dev/null
threaded=(test_pool test_shared_model test_evaluate test_planes)
ninja -C build-threads "${threaded[@]}" >build-threads/ninja.log || { cat build-threads/ninja.log; exit 1; }
for test in "${threaded[@]}"; do
    "build-threads/$test"
done

echo "== fuzzing, $fuzz_seconds s each =="
tests/fuzz/run.sh "$fuzz_seconds"
