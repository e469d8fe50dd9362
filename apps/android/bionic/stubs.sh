#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes libc.so and libm.so to link against for one Android target: empty functions that carry the names of the real ones, which
# the phone brings; the names are those that include/*.h declares. They have no symbol versions, so that a reference takes the
# phone's default, whatever its version is called.
#   stubs.sh FOLDER CLANG_FLAGS...
set -euo pipefail
folder=$1
flags=("${@:2}")
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"

make_library() { # libNAME, source of empty functions on standard input
    cat >"$folder/$1.c"
    clang "${flags[@]}" -w -fno-builtin -fPIC -nostdlib -shared -fuse-ld=lld -Wl,-soname,"$1.so" \
        "$folder/$1.c" -o "$folder/$1.so"
}

declared() { # every function declared in these headers, with an empty body
    (cd "$here/include" && sed -nE 's/^[a-z].*[ *]([a-z][a-z0-9_]*)\(.*;$/void \1(void) {}/p' "$@")
}

declared math.h | make_library libm
{
    declared stdlib.h string.h stdio.h time.h unistd.h pthread.h
    echo 'void __stack_chk_fail(void) {} long __stack_chk_guard;'
    # What compilers for 32-bit ARM call instead of memcpy and the like.
    for call in memcpy memmove memset memclr; do
        for bytes in "" 4 8; do echo "void __aeabi_$call$bytes(void) {}"; done
    done
} | make_library libc
