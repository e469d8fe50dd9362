#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Assembles the engine into two files that can be dropped into any C project:
scripts/amalgamate.py OUT_FOLDER  ->  OUT_FOLDER/qcnn.c, OUT_FOLDER/qcnn.h

    cc -std=c11 -O3 -c qcnn.c        (and link with -lm)

No flags for instruction sets: each kernel file is compiled for its own by pragmas, and chosen at run time as in the library.
Define QCNN_NO_FILES where there is no mmap (qcnn_model_open is then missing; qcnn_model_load is there).
"""

import argparse
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ["base", "model", "kernels", "engine"]
SYSTEM = re.compile(r"#include <(.+?)>")
OWN = re.compile(r'#include "(.+?)"')

# Kernel files by the ending of their names: the machines they are for, and the targets GCC and clang compile them for.
X86 = "defined(__x86_64__)"
ARM = "defined(__aarch64__)"
ISAS = {
    "avx2": (X86, "avx2,fma"),
    "avx512": (X86, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"),
    "avx512vnni": (X86, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"),
    "avx512vbmi": (X86, "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma"),
    "neon": (ARM, None),
    "neondot": (ARM + " && !defined(QCNN_NO_NEONDOT)", "arch=armv8.2-a+dotprod"),
    "wasm": ("defined(__wasm_simd128__)", None),
}
VECTOR_HEADERS = {"immintrin.h": X86, "arm_neon.h": ARM, "wasm_simd128.h": "defined(__wasm_simd128__)"}

TOP = """// SPDX-License-Identifier: Apache-2.0
// qcnn {version}, the engine in one file: made by scripts/amalgamate.py from the project's sources, not to be edited.
// Compile as C11 with GCC or clang, with optimization; link with libm. See qcnn.h.

#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L // mmap, open
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF // results are the same on every machine
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
#if defined(__clang__) && !defined(__ARM_FEATURE_DOTPROD)
#define QCNN_NO_NEONDOT // clang needs -march=armv8.2-a+dotprod for all of the file; GCC chooses at run time
#endif
"""


def sources():
    """The engine's C files, in the order of the rooms."""
    for room in ROOMS:
        yield from sorted((ROOT / "src" / room).glob("*.c"))


def strip(text):
    """Without the licence line, which the whole has once, and without blank lines at the ends."""
    lines = [line for line in text.splitlines() if not line.startswith("// SPDX-License-Identifier")]
    return "\n".join(lines).strip("\n")


def own_headers(path, seen, order):
    """Adds the project's headers that `path` includes to `order`, each after those it needs."""
    for name in OWN.findall(path.read_text(encoding="utf-8")):
        header = ROOT / "include" / name if name.startswith("qcnn") else ROOT / "src" / name
        if name.startswith("qcnn") or header in seen:
            continue
        seen.add(header)
        own_headers(header, seen, order)
        order.append(header)


def without_includes(text):
    """Without #include lines, except those that stand in a condition."""
    depth, kept = 0, []
    for line in text.splitlines():
        if re.match(r"#\s*if", line):
            depth += 1
        elif re.match(r"#\s*endif", line):
            depth -= 1
        if OWN.match(line) or (SYSTEM.match(line) and depth == 0):
            continue
        kept.append(line)
    return "\n".join(kept)


def unguarded(text):
    """A header without its include guard: it appears once."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#ifndef"))
    end = max(i for i, line in enumerate(lines) if line.startswith("#endif"))
    return "\n".join(lines[:start] + lines[start + 2 : end])


def macros(text):
    """The names a C file defines with #define, so that they end with it."""
    return re.findall(r"^#define (\w+)", text, re.M)


def wrapped(path, text):
    """A kernel file between the pragmas of its instruction set."""
    isa = path.stem.rsplit("_", 1)[-1]
    if path.parent.name != "kernels" or isa not in ISAS:
        return text
    machine, target = ISAS[isa]
    if target is None:
        return f"#if {machine}\n{text}\n#endif"
    if isa == "neondot":
        return (
            f"#if {machine}\n#if !defined(__clang__)\n#pragma GCC push_options\n#pragma GCC target(\"{target}\")\n#endif\n{text}\n"
            "#if !defined(__clang__)\n#pragma GCC pop_options\n#endif\n#endif"
        )
    clang = f'#pragma clang attribute push(__attribute__((target("{target}"))), apply_to = function)'
    gcc = f'#pragma GCC push_options\n#pragma GCC target("{target}")'
    return (
        f"#if {machine}\n#if defined(__clang__)\n{clang}\n#else\n{gcc}\n#endif\n{text}\n"
        "#if defined(__clang__)\n#pragma clang attribute pop\n#else\n#pragma GCC pop_options\n#endif\n#endif"
    )


def system_includes(files):
    """The standard headers all files need, and the vector headers in their conditions."""
    names = set()
    for path in files:
        depth = 0
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"#\s*if", line):
                depth += 1
            elif re.match(r"#\s*endif", line):
                depth -= 1
            found = SYSTEM.match(line)
            if found and depth <= (1 if path.suffix == ".h" else 0):
                names.add(found.group(1))
    files_only = {"fcntl.h", "sys/mman.h", "sys/stat.h", "unistd.h"} & names
    plain = sorted(names - set(VECTOR_HEADERS) - files_only)
    lines = [f"#include <{name}>" for name in plain]
    lines += ["#if !defined(QCNN_NO_FILES)"] + [f"#include <{name}>" for name in sorted(files_only)] + ["#endif"]
    for name, condition in VECTOR_HEADERS.items():
        if name in names:
            lines += [f"#if {condition}", f"#include <{name}>", "#endif"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where qcnn.c and qcnn.h are written")
    out = parser.parse_args().folder
    out.mkdir(parents=True, exist_ok=True)
    public = (ROOT / "include" / "qcnn.h").read_text(encoding="utf-8")
    version = re.search(r'QCNN_VERSION "(.*?)"', public).group(1)
    files, headers, seen = list(sources()), [], set()
    for path in files:
        own_headers(path, seen, headers)
    parts = [TOP.replace("{version}", version), system_includes(headers + files), '#include "qcnn.h"\n']
    parts.append("#pragma GCC visibility push(hidden) // nothing but qcnn.h is exported from a shared library")
    for path in headers:
        text = without_includes(unguarded(strip(path.read_text(encoding="utf-8"))))
        text = text.replace("static inline ", "static inline __attribute__((unused)) ")  # the compressor may be its only user
        parts.append(f"// ==== {path.relative_to(ROOT)} ====\n\n{text.strip()}\n")
    for path in files:
        text = path.read_text(encoding="utf-8")
        names = macros(text)
        text = wrapped(path, without_includes(strip(text)).strip())
        if path.name == "container_file.c":
            text = f"#if !defined(QCNN_NO_FILES)\n{text}\n#endif"
        undefined = "".join(f"#undef {name}\n" for name in dict.fromkeys(names) if f"#undef {name}" not in text)
        parts.append(f"// ==== {path.relative_to(ROOT)} ====\n\n{text}\n{undefined}")
    parts.append("#pragma GCC visibility pop\n")
    (out / "qcnn.c").write_text("\n".join(parts), encoding="utf-8")
    (out / "qcnn.h").write_text(public, encoding="utf-8")


if __name__ == "__main__":
    main()
