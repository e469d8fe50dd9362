#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The engine as two files, qcnn.c and qcnn.h: assembled, compiled alone as C11 without further flags by each compiler, and run
# on a network with every tier: the same bits as from the library.
#   tests/two_files.sh BUILD_FOLDER [MODEL.qcnn]
set -euo pipefail
build=$(realpath "$1")
model=$(realpath "${2:-$(dirname "$0")/golden/every_op.qcnn}")
cd "$(dirname "$0")/.."
out=$build/amalgamation
scripts/amalgamate.py "$out"
"$build/engine_run" "$model" >"$out/expected"
tried=0
for compiler in gcc clang; do
    command -v $compiler >/dev/null || { echo "two_files: no $compiler" >&2; continue; }
    $compiler -std=c11 -Wall -Wextra -Werror -I"$out" "$out/qcnn.c" tests/cross/engine_run.c -lm -o "$out/run_$compiler" || {
        echo "two_files: $compiler does not take qcnn.c. A redefinition means that two of the engine's files use one name: rename one." >&2
        exit 1
    }
    "$out/run_$compiler" "$model" >"$out/scores_$compiler"
    cmp "$out/expected" "$out/scores_$compiler" || { echo "two_files: other scores than the library's ($compiler)" >&2; exit 1; }
    tried=$((tried + 1))
done
[ $tried -gt 0 ] || exit 77
echo "two_files: $(wc -l <"$out/qcnn.c") lines, $tried compilers, $(wc -l <"$out/expected") tiers: the library's bits"
