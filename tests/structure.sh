#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Holds docs/structure.md against the code: who may include whom, what the engine needs from outside, what it exports.
#   tests/structure.sh BUILD_FOLDER
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/.."
failed=0
complain() { echo "structure: $*" >&2; failed=1; }

# may FOLDER 'allowed prefixes of #include "..."'
may() {
    local hits
    hits=$(grep -nH '#include "' -r "$1" --include='*.c' --include='*.h' | grep -vE "#include \"($2)" || true)
    [ -z "$hits" ] || complain "$1 includes what it may not:"$'\n'"$hits"
}
own='[a-z0-9_]+\.h"'
may src/base 'base/|qcnn\.h'
hits=$(grep -rn '#include "' src/model --include='*.[ch]' | grep -vE '#include "(base/|model/|qcnn\.h)' | grep -v 'prepare.c:.*kernels/kernels.h' || true)
[ -z "$hits" ] || complain "src/model includes what it may not: $hits"
may src/kernels 'base/|model/|kernels/|qcnn\.h'
may src/engine 'base/|model/|kernels/|engine/|qcnn\.h'
may src/image 'base/|model/|image/|qcnn'
may src/import 'base/|model/|import/|qcnn'
may src/coding 'base/|model/|coding/|qcnn'
may src/export 'base/|model/|coding/|export/|qcnn'
may src/compress 'base/|model/|engine/|kernels/|image/|coding/|compress/|qcnn'
may tools "qcnn|$own"
may bindings 'qcnn[a-z_]*\.h'
may apps "qcnn[a-z_]*\.h|$own"

# The engine needs only what docs/structure.md lists, and exports only qcnn_ symbols.
allowed=' aligned_alloc free memcpy memmove memset memcmp memchr strlen strcmp snprintf vsnprintf open close fstat mmap munmap read
 strerror __errno_location __stack_chk_fail expf logf powf sqrtf tanhf expm1f log1pf fabsf floorf _GLOBAL_OFFSET_TABLE_ fmaf '
for symbol in $(nm -u "$build/libqcnn.a" 2>/dev/null | awk '$1 == "U" { print $2 }' | sort -u); do
    case $symbol in qcnn_*) continue ;; esac
    case $allowed in *[[:space:]]$symbol[[:space:]]*) ;; *) complain "the engine needs $symbol, which docs/structure.md does not list" ;; esac
done
stray=$(nm -D --defined-only "$build/libqcnn.so" | awk '{ print $3 }' | grep -v '^qcnn_' || true)
[ -z "$stray" ] || complain "libqcnn.so exports $stray"
stray=$(nm -g --defined-only "$build/libqcnn.a" "$build/libqcnn_compress.a" | awk 'NF == 3 { print $3 }' | grep -v '^qcnn_' || true)
[ -z "$stray" ] || complain "the static libraries define $stray"
ending=$(nm -u "$build/libqcnn_compress.a" | awk '{ print $2 }' | grep -xE 'abort|exit|_exit|__assert_fail|getenv|secure_getenv' || true)
[ -z "$ending" ] || complain "the compressor calls $ending"

# The kernel tester covers every kernel of the table.
fields=$(sed -n '/^typedef struct qcnn_kernels {/,/^} qcnn_kernels;/p' src/kernels/kernels.h | grep -oE '\(\*[a-z0-9_]+\)\(' | tr -d '(*)' | sort)
tested=$("$build/kernels_test" --list | awk -F'[| ]+' 'NR > 1 { print $2 }' | sort)
[ "$fields" = "$tested" ] || complain "kernels without a test, or tests without a kernel: $(diff <(echo "$fields") <(echo "$tested") | grep '^[<>]' | tr '\n' ' ')"

# The engine is small: a stripped shared object with all tiers of this machine.
limit=200000
strip -o "$build/libqcnn.stripped.so" "$build/libqcnn.so"
bytes=$(stat -c %s "$build/libqcnn.stripped.so")
echo "structure: the stripped libqcnn.so has $bytes bytes, of at most $limit"
[ "$bytes" -lt $limit ] || complain "the engine has grown beyond $limit bytes; the largest sections: $(size -A "$build/libqcnn.stripped.so" | sort -k2 -n | tail -4)"
[ $failed = 0 ] && echo "structure: as documented"
exit $failed
