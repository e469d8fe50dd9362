#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks build/android/qcnn.apk without running it: signature, alignment, manifest, permissions, dex, and each native library's
page size, symbols and needs. Tools: Debian's apksigner, zipalign, aapt, dexdump, llvm-readelf.

    verify.py APK
"""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64")
MAX_BYTES = 20_000_000
PAGE, LARGE_PAGE = 4096, 16384
HERE = os.path.dirname(os.path.abspath(__file__))
# What the framework's libraries have beyond the declarations in bionic/include.
IMPLIED = {"__stack_chk_fail", "__stack_chk_guard", "getauxval"} | {
    f"__aeabi_{call}{size}" for call in ("memcpy", "memmove", "memset", "memclr") for size in ("", "4", "8")}


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def declared():
    """Functions that the libraries may ask Android's libc and libm for: all of them are there on API 26."""
    names = set(IMPLIED)
    folder = os.path.join(HERE, "bionic/include")
    for header in os.listdir(folder):
        with open(os.path.join(folder, header)) as file:
            names |= set(re.findall(r"[ *]([a-z][a-z0-9_]*)\([^)]*\)[^;{]*;", file.read()))
    return names


def check_signature(apk):
    text = output("apksigner", "verify", "--verbose", "--min-sdk-version", "26", apk)
    assert "v2 scheme (APK Signature Scheme v2): true" in text and "v3 scheme (APK Signature Scheme v3): true" in text, text
    output("zipalign", "-c", "-p", "4", apk)


def check_manifest(apk):
    text = output("aapt", "dump", "badging", apk)
    for line in ("package: name='org.qcnn.app'", "sdkVersion:'26'", "targetSdkVersion:'35'", "application-label:'Lookup'",
                 "application-label-zh-CN:'看图识物'", "launchable-activity: name='org.qcnn.app.MainActivity'"):
        assert line in text, line
    native = re.search(r"native-code: (.*)", text).group(1)
    assert all(f"'{abi}'" in native for abi in ABIS), native
    permissions = output("aapt", "dump", "permissions", apk)
    assert "uses-permission" not in permissions, permissions
    tree = output("aapt", "dump", "xmltree", apk, "AndroidManifest.xml")
    assert re.search(r"extractNativeLibs.*0x0\b", tree), "libraries are to be used where they lie in the package"
    exported = [line for line in tree.splitlines() if "android:exported" in line and "0xffffffff" in line]
    assert len(exported) == 1, "one activity is exported"


def data_offset(apk, entry):
    """Where the bytes of an entry start in the file."""
    with open(apk, "rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
        name, extra = struct.unpack("<HH", header[26:30])
    return entry.header_offset + 30 + name + extra


def check_entries(apk, package):
    names = {entry.filename for entry in package.infolist()}
    assert {"AndroidManifest.xml", "classes.dex", "resources.arsc"} <= names
    models = [entry for entry in package.infolist() if entry.filename.endswith(".qcnn")]
    assert models, "no model in the package"
    for entry in models:
        assert entry.compress_type == zipfile.ZIP_STORED and data_offset(apk, entry) % PAGE == 0, entry.filename
    for abi in ABIS:
        entry = package.getinfo(f"lib/{abi}/libqcnn_java.so")
        assert entry.compress_type == zipfile.ZIP_STORED and data_offset(apk, entry) % LARGE_PAGE == 0, entry.filename
    assert package.getinfo("resources.arsc").compress_type == zipfile.ZIP_STORED, "required from API 30 on"
    return [os.path.basename(entry.filename) for entry in models]


def check_dex(folder):
    text = output("dexdump", os.path.join(folder, "classes.dex"))
    classes = set(re.findall(r"Class descriptor  : 'L([^;]*);'", text))
    for name in ("app/MainActivity", "app/HistoryActivity", "app/ModelsActivity", "app/BenchmarkActivity", "app/PhotoProvider",
                 "app/LookupApp", "engine/Network", "engine/QcnnException"):
        assert "org/qcnn/" + name in classes, name
    strangers = [name for name in classes if not name.startswith("org/qcnn/")]
    # D8 puts its own helpers in the classes' packages; nothing else may be there
    assert not strangers, strangers
    return len(classes)


def check_library(path, allowed):
    text = output("llvm-readelf", "-d", "-l", "--dyn-syms", "-V", path)
    needed = set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.*?)\]", text))
    assert needed == {"libc.so", "libm.so"}, needed
    assert "TEXTREL" not in text, "text relocations"
    assert "GLIBC" not in text
    assert "BIND_NOW" in text and "GNU_RELRO" in text
    loads = re.findall(r"^\s+LOAD\s.*?(0x[0-9a-f]+)\s*$", text, re.M)
    assert len(loads) >= 2 and all(int(alignment, 16) == LARGE_PAGE for alignment in loads), loads
    assert re.search(r"^\s+LOAD.*\sRW ", text, re.M), "a writable segment, without which 4 KiB systems refuse the file"
    assert not re.search(r"^\s+LOAD.*\sRWE ", text, re.M) and not re.search(r"GNU_STACK.*\sRWE? *E", text), "writable code"
    symbols = re.findall(r"^\s+\d+: \S+\s+\d+ (\w+)\s+(\w+)\s+\w+\s+(\w+) (\S+)$", text, re.M)
    exported = {name for _, binding, where, name in symbols if where != "UND"}
    assert exported == {"JNI_OnLoad"}, exported
    wanted = {name.split("@")[0] for _, binding, where, name in symbols if where == "UND"}
    assert wanted <= allowed, wanted - allowed
    return len(wanted)


def main():
    apk = sys.argv[1]
    missing = [tool for tool in ("apksigner", "zipalign", "aapt", "dexdump", "llvm-readelf") if not shutil.which(tool)]
    if missing:
        print("SKIPPED: not installed:", " ".join(missing))
        return 77
    size = os.path.getsize(apk)
    assert size < MAX_BYTES, size
    check_signature(apk)
    check_manifest(apk)
    with zipfile.ZipFile(apk) as package, tempfile.TemporaryDirectory() as folder:
        models = check_entries(apk, package)
        package.extractall(folder)
        n_classes = check_dex(folder)
        allowed = declared()
        for abi in ABIS:
            library = os.path.join(folder, "lib", abi, "libqcnn_java.so")
            n_symbols = check_library(library, allowed)
            print(f"{abi}: {os.path.getsize(library)} bytes, exports JNI_OnLoad alone, needs {n_symbols} functions of libc and libm")
    print(f"{apk}: {size} bytes, {n_classes} classes, models: {', '.join(models)}; signature, alignment, manifest and symbols are as they should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
